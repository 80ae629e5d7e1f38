# Made of a text without a file: at its very end python3 can read no source lines any more.
exec(compile("""
class Broken:
    def __del__(self):
        raise ValueError("in del")
""", "<text>", "exec"))
broken = Broken()
