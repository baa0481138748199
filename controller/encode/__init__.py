"""One encoder and one parser per foreign grammar: the only way for a manifest value into a shell, a file or a path.

Pure: text in, values out, and back. Every encoder's output is read back by the real parser of its grammar in a test.
"""
