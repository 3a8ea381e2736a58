"""A report: results folders, or exports of them, as one HTML file that opens without a network."""
