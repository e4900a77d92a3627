"""GPUs and the processes that use them."""
