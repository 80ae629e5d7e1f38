# What each program of sandbox-helper is made of.
HELPER_SRCS := main.c
STAGE_SRCS  := stage_main.c
PACKER_SRCS := packer_main.c
