"""What plugins are held to, as classes to subclass: one pytest test for each rule."""
