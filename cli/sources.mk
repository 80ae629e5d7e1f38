CLI_SRCS := main.c
