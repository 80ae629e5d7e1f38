import gc
import weakref


class Noisy:
    def __init__(self, name):
        self.name = name

    def __del__(self):
        print("del", self.name)


class Node(Noisy):
    pass


first = Noisy("global")
_private = Noisy("private")
node, other = Node("cycle a"), None
node.self = node
kept = [Noisy("in a list")]
target = Noisy("finalized")
weakref.finalize(target, print, "finalize")
print("body", gc.isenabled(), gc.get_threshold())
