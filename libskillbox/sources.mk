# core: what module, helper, stage and CLI share; package: libyaml, libarchive and utf8proc
# come with it, so only packer, CLI and tests link it.
LIB_CORE_SRCS := err.c buf.c names.c units.c semver.c uuid7.c signature.c fastcgi.c fold.c zip_make.c jsontext.c
LIB_STORE_SRCS := store.c store_keys.c store_tenants.c store_usage.c store_ballast.c store_upgrade.c store_backup.c store_skills.c store_heads.c \
                  store_catalog.c store_files.c store_executions.c store_lists.c store_retention.c \
                  store_idempotency.c store_graves.c store_artifacts.c store_packages.c \
                  journal.c store_journal.c
LIB_PACKAGE_SRCS := findings.c manifest.c manifest_yaml.c manifest_keys.c manifest_entry.c \
                    package.c package_rules.c package_twins.c package_fs.c package_zip.c package_dir.c package_pack.c \
                    zip_check.c unicode.c multipart.c scan.c scan_rules.c scan_chars.c scan_names.c
