"""Stand-ins for the commands of the build VM, the SAN and the boot server of the simulated site.

Every module here is one command (or a family that shares its state) with ``main(argv, box) -> exit status``. They run
inside a machine of `controller.lab.machine` under the plain python3 of that machine, so they import nothing but the
standard library, `controller.lab.quickjson` and each other. State that a daemon would keep lives in ``/lab/*.json``.
"""
