"""The installer environment of bare machines: a kernel and a small initial file system, made from Debian's packages."""
