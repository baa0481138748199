"""What reads foreign bytes, Git objects and YAML, in a process of its own that holds nothing worth taking.

    ids on stdin -> blobs (GitPython) -> yamltree (PyYAML) -> wire (JSON, a line for each blob) on stdout

`python -m controller.reader` is that process. Its environment is empty but for what git needs to find one repository; it
is given no path of a key, no network where the kernel grants that, little memory and little time; and before the first
byte of YAML is parsed it gives up opening files, starting programs and writing. The process that acts imports `wire`
alone, and believes nothing that it cannot check.
"""
