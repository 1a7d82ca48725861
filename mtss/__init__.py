__version__ = "0.1.0"

import os
# Large tensors on large pages, which PyTorch leaves to its users: with small ones a step on a CPU spends a fifth of its time on page faults (Linux; no effect elsewhere)
os.environ.setdefault('THP_MEM_ALLOC_ENABLE', '1')
