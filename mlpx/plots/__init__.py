"""Numbers in, a matplotlib Figure out."""

import logging

# Where its cache cannot be written matplotlib says so at length, makes a temporary one, and works.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
