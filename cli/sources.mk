CLI_SRCS := main.c options.c output.c jsontext.c client.c server.c state.c process.c install.c layout.c \
            templates.c up.c up_start.c down.c remove.c status.c key.c tenant.c backup.c doctor.c doctor_checks.c skill.c version.c \
            file.c push.c run.c download.c \
            exec.c health.c completion.c completion_scripts.c runtime.c runtime_import.c importer.c
# What the CLI shares with sandbox-helper: the words of its programs, and removing trees.
CLI_HELPER_SRCS := sys.c rmtree.c
