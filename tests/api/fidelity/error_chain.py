def inner():
    return {}["missing"]


def outer():
    try:
        inner()
    except KeyError as error:
        raise ValueError("outer") from error


outer()
