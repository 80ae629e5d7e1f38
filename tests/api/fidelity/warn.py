import warnings


def old():
    warnings.warn("old", DeprecationWarning, stacklevel=2)


old()
warnings.warn("user")
warnings.warn("user again", RuntimeWarning)
print([str(f[0]) + f[2].__name__ for f in warnings.filters], "\d".__len__())
print(warnings.showwarning.__module__)
