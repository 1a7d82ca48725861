__version__ = "0.1.0"

import os
# Large tensors on large pages, which PyTorch leaves to its users: with small ones two threads wait for each other at page faults (Linux; no effect elsewhere)
os.environ.setdefault('THP_MEM_ALLOC_ENABLE', '1')
