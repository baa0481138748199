"""jailops: GitOps for diskless FreeBSD jail servers.

One pass goes one way: Git -> desired -> observed -> diff -> plan -> execute -> record.
`controller/reconcile.py` is the page to read first.
"""

__version__ = "0.1.0"
