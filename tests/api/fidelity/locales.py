import locale
import time

print(locale.setlocale(locale.LC_ALL), locale.getlocale(), locale.getpreferredencoding(), locale.localeconv()["decimal_point"])
print(time.tzname, time.timezone, time.strftime("%A", time.gmtime(0)))
