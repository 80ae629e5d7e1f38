raise SystemExit(256 * 1024 + 7)
