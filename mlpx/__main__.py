"""Where the program starts; nothing is imported here that takes time, so that a signal always finds its handler."""

import gc
import os
import signal
import sys


def main() -> int:
    """Run the command line and return the exit code."""
    gc.disable()  # while it imports: walking torch's million new objects again and again takes a third of a second
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until a run exists there is nothing to save: die by the signal
    for descriptor in range(3):  # a closed stream's number must not go to a file of the run
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)

    from mlpx.cli.app import run

    code = run(sys.argv[1:])
    gc.freeze()  # all goes at once with the process; a last walk takes a third of a second more
    return code


if __name__ == "__main__":
    sys.exit(main())
