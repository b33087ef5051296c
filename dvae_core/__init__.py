"""The trainable core of a discrete variational autoencoder (Rolfe, ICLR 2017).

Nothing is imported here, so that a command line can read configurations without loading torch.
"""

__version__ = "0.1.0"
