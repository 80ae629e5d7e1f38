import faulthandler
import sys
sys.stdout.write("x")
faulthandler._sigsegv()
