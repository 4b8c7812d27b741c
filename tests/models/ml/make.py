#!/usr/bin/env python3
"""Writes exported.jsonl, synthetic.jsonl and standard.jsonl. See README.md."""

import sys

import exported
import fixture
import standard
import synthetic

for module in (standard, synthetic, exported):
    if len(sys.argv) == 1 or module.GROUP in sys.argv[1:]:
        module.main()
fixture.write()
