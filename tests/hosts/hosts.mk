# Tests in virtual machines of their own (tests/hosts/run): real systemd and control groups, other
# kernels and boot parameters.  Minutes, and not part of `make test`.
.PHONY: hosts
hosts: ## tests on hosts of other kinds, in virtual machines: systemd, cgroups v2 and v1
	@tests/tools/deps build run test hosts
	@$(MAKE) -s --no-print-directory -j$(JOBS) all test-programs
	@tests/hosts/run $(BUILD) $(ARGS)
