"""The GPUs of this machine and the processes that use them."""
