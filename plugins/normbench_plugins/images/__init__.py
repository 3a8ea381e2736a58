"""What the image tasks are made of: reading the data sets, augmentation and networks. Its modules import torch."""
