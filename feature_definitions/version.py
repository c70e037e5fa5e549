"""Which Headwater this is: what a package is named by, and a manifest says."""

VERSION = "0.1.0"
