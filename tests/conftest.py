"""Settings for all tests."""

import torch

# Many tests are many small operations; threads would only wait for each other.
torch.set_num_threads(1)
