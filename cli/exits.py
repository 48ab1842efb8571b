"""Exit codes of every command, for scripts and supervisors."""

OK = 0
FAILED = 1  # the command did not do what it was asked, or `prove` found a breach
USAGE = 2  # the command line itself is wrong
CONFIG = 3  # the settings are wrong or missing
UNREACHABLE = 4  # a server that is needed does not answer
FINDINGS = 5  # the command worked, and found something that a person should mend (doctor, contracts)
