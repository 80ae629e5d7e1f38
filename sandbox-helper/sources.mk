# What each program of sandbox-helper is made of.
HELPER_SRCS := main.c helper.c config.c config_runtimes.c config_zygote.c config_prestart.c log.c loop.c identity.c package_cache.c \
               runtime.c root.c image.c check.c trial.c remedy.c state.c rmtree.c cgroup.c cgroup_find.c cgroup_text.c \
               leftovers.c stagelink.c warm.c zygotes.c prestart.c collect.c server.c connection.c request.c queue.c \
               job.c job_run.c job_end.c job_plain.c job_async.c grave.c attach.c runlog.c spool.c syncer.c deliver.c intake.c \
               status.c service.c sys.c result.c warnings.c
STAGE_SRCS  := stage_main.c template.c template_image.c sandbox.c mounts.c init.c keeper.c memwatch.c launch.c jobfile.c rlimits.c \
               filter.c filter_load.c policy.c policy_print.c nursery.c sys.c privileges.c idmap.c landlock.c report.c zygote.c \
               ready.c ready_script.c
PACKER_SRCS := packer_main.c intake_child.c read_child.c extract_child.c image.c seal.c collect_child.c output.c artifacts.c \
               artifact_twins.c \
               import_child.c import_image.c layer.c rootfs.c oci.c \
               beneath.c tarball.c gzip.c result.c warnings.c warmup.c confine.c packer_filter.c nursery.c sys.c \
               privileges.c idmap.c landlock.c report.c
# sandbox-zygote.so: what a run is made of, in a runtime's own python3.
ZYGOTE_LIB_SRCS := names.c buf.c
ZYGOTE_SRCS := zygote_python.c zygote_end.c zygote_hot.c sandbox.c mounts.c init.c keeper.c memwatch.c launch.c jobfile.c rlimits.c filter_load.c \
               nursery.c sys.c privileges.c idmap.c landlock.c report.c template_image.c ready.c
