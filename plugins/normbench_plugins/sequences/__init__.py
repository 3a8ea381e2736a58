"""What tasks on sequences of tokens share: networks."""
