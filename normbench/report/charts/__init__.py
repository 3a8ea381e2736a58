"""Charts of a report: a specification of Vega-Lite and its data, made from what boards and pictures are made from."""
