file = open("/tmp/x", "w")
file.write("data")


class Check:
    def __del__(self):
        print("closing")


check = Check()
