"""FreeBSD's own commands on a simulated node, as a real 13.2 showed them, the unkind parts included.

They run inside a machine with `python -I -S` and the standard library only; state that a kernel would keep lives in
/lab/state and is lost at power off, everything else is real files. What the reference does not cover is refused with
exit status 70 and noted in /lab/uncovered.
"""
