"""Memory of the CPU that is freed and soon asked for again: glibc is told to keep it."""

import ctypes

# The names and numbers of glibc's malloc.h; see mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# The largest that glibc takes for the second on a machine of 64 bits, and for the first any that is never reached.
LARGEST_MMAP_THRESHOLD = 32 * 2**20
NEVER = 2**31 - 1


def keep_freed() -> bool:
    """Let this process keep the memory that it frees, for what it allocates next, and say whether that was possible.

    By default glibc gives much of it back to the kernel, which then fills each page with zeros anew, one page fault a
    page; the buffers of a step of a large perceptron cost thousands of them. Blocks of more than 32 MiB are always
    given back. Other C libraries than glibc are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # Each returns 1 if it was taken.
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD) and mallopt(M_TRIM_THRESHOLD, NEVER))
