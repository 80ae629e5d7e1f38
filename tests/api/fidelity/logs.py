import logging
import logging.handlers

logging.warning("to stderr")
handler = logging.handlers.MemoryHandler(100, target=logging.StreamHandler())
logging.getLogger().addHandler(handler)
logging.getLogger("x").error("flushed at exit")
