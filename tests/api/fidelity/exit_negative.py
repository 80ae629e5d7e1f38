exit(-2)
