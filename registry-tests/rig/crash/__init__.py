"""Commands that are killed, or whose calls fail, anywhere; and what must be true after that.

shim.c, shim.py   counts the calls of a process that change files, and disturbs one of them
zygote.py         runs commands in processes of their own without starting Python each time
host.py           a sysroot as a boot loader and the kernel command line see it
scenes.py         the commands, each with what it finds
rounds.py         one command disturbed, judged, run again, and judged again
power.py          power cuts: a disk that keeps only what was synced
chance.py         images of real size, killed at random moments
"""
