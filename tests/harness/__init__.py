"""What all pytest suites (api, attack, fault) share: a real gateway to test.

gateway.py   nginx with our module and a sandbox-helper, started and stopped
watch.py     what is on the host: processes, mounts, control groups, memory
packages.py  skill packages as zips, good and hostile ones
"""
