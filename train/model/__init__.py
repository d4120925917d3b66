"""The network: `network` joins a backbone of `backbones` and the head of metrix_ext.heads; `batch_norm`."""
