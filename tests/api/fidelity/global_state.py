import codecs
import copyreg
import sys

print(len(copyreg.dispatch_table) < 10, sys.getallocatedblocks() > 0, codecs.lookup("utf-8").name, sys.intern("a"))
print(type(sys.displayhook), sys.displayhook is sys.__displayhook__, sys.excepthook is sys.__excepthook__,
      sys.unraisablehook is sys.__unraisablehook__, sys.breakpointhook is sys.__breakpointhook__)
help
print(type(exit), type(help), type(copyright), [n for n in dir(__builtins__) if n.startswith("_")])
