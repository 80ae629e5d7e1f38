/*
 * test_stage.c - sandbox-stage keeps what sandbox-helper/stage.h and the contract's
 * section 4 promise: the real program, real namespaces, real interpreters.
 *
 * What a script says about its surroundings is only believed where its being wrong would
 * fail another check; escapes are looked for from outside by tests/attack.
 */
#include "cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../sandbox-helper/sys.h"
#include "stage_peer.h"

static stage_peer_t stage;
static stage_run_t run;

static void start_over(uint32_t lang, const char *script)
{
    memset(&run, 0, sizeof(run));
    run.lang = lang;
    stage_peer_package(&stage, script, run.digest);
}

/* Runs a one-file package and expects it to end by itself with this status. */
static void run_script(uint32_t lang, const char *script, int exit_code)
{
    if (run.digest[0] == '\0' || run.lang != lang || script != NULL)
        start_over(lang, script);
    stage_peer_run(&stage, &run);
    if (run.setup.kind != 0)
        fail_msg("set-up: %s: %s (%s)", run.setup.failed_step, strerror(run.setup.failed_errno),
                 run.setup.text);
    assert_true(run.ready);
    assert_true(run.ended);
    if (!WIFEXITED(run.wstatus) || WEXITSTATUS(run.wstatus) != exit_code)
        fail_msg("wait status 0x%x\n%s\n%s", run.wstatus, run.stdout_text, run.stderr_text);
    assert_true(WIFEXITED(run.exited.wstatus));
    assert_int_equal(WEXITSTATUS(run.exited.wstatus), 0);
}

static void run_setup_fails(const char *step, int err)
{
    stage_peer_run(&stage, &run);
    assert_int_equal(run.failed.kind, 0);
    assert_int_equal(run.setup.kind, RUN_SETUP_FAILED);
    assert_string_equal(run.setup.failed_step, step);
    assert_int_equal(run.setup.failed_errno, err);
    assert_false(run.ended);
    assert_int_equal(run.outlen, 0);
    stage_run_close(&run);
}

static void says(const char *expected)
{
    if (strstr(run.stdout_text, expected) == NULL)
        fail_msg("no \"%s\" in:\n%s\n%s", expected, run.stdout_text, run.stderr_text);
}

static void says_exactly(const char *expected)
{
    assert_string_equal(run.stdout_text, expected);
}

/* ---- what a script sees ---- */

static void python_runs_with_input_and_output(void **state)
{
    start_over(STAGE_PYTHON,
               "import json, os, sys\n"
               "data = json.load(open('/sandbox/input.json'))\n"
               "assert data == json.loads(os.environ['SANDBOX_INPUT']) == json.load(sys.stdin)\n"
               "json.dump({'sum': sum(data['n'])}, open(os.environ['SANDBOX_OUTPUT'], 'w'))\n"
               "open(os.environ['SANDBOX_FILES_DIR'] + '/chart.svg', 'w').write('<svg/>')\n"
               "print(os.getcwd(), sys.argv[0])\n"
               "print('to stderr', file=sys.stderr)\n"
               "sys.exit(7)\n");
    run.input = "{\"n\": [1, 2, 39]}";
    run_script(STAGE_PYTHON, NULL, 7);
    says_exactly("/sandbox /sandbox/scripts/main\n");
    assert_string_equal(run.stderr_text, "to stderr\n");
    assert_string_equal(stage_run_file(run.out, "output.json"), "{\"sum\": 42}");
    assert_string_equal(stage_run_file(run.out, "files/chart.svg"), "<svg/>");
    stage_run_close(&run);
}

static void node_runs_with_threads_and_children(void **state)
{
    if (stage.config.runtimes[STAGE_NODE].interpreter[0] == '\0')
        skip();
    run_script(STAGE_NODE,
               "const {Worker} = require('worker_threads'), cp = require('child_process');\n"
               "const fs = require('fs');\n"
               "fs.copyFileSync('/sandbox/input.json', '/tmp/copy');\n"
               "fs.writeFileSync(process.env.SANDBOX_OUTPUT, fs.readFileSync('/tmp/copy'));\n"
               "const child = cp.execFileSync('bash', ['-c', 'echo child']).toString().trim();\n"
               "const w = new Worker('require(\"worker_threads\").parentPort.postMessage(6*7)',"
               " {eval: true});\n"
               "w.on('message', m => console.log(child, m));\n",
               0);
    says_exactly("child 42\n");
    assert_string_equal(stage_run_file(run.out, "output.json"), "{}");
    stage_run_close(&run);
}

static void python_has_processes_threads_sockets_and_sqlite(void **state)
{
    run_script(STAGE_PYTHON,
               "import getpass, multiprocessing, os, socket, sqlite3, subprocess, threading\n"
               "def main():\n"
               "    with multiprocessing.Pool(2) as pool:\n"
               "        assert pool.map(abs, [-1, -2]) == [1, 2]\n"
               "    assert subprocess.run(['sh', '-c', 'exit 3']).returncode == 3\n"
               "    t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n"
               "    db = sqlite3.connect('/tmp/db'); db.execute('create table t(x)'); db.commit()\n"
               "    for host in ('127.0.0.1', 'localhost', '::1'):\n"
               "        family = socket.AF_INET6 if ':' in host else socket.AF_INET\n"
               "        with socket.create_server((host, 0), family=family) as s:\n"
               "            socket.create_connection((host, s.getsockname()[1])).close()\n"
               "    os.mkfifo('/tmp/fifo')\n"
               "    print(getpass.getuser(), os.getuid(), os.getgid(), socket.gethostname())\n"
               "if __name__ == '__main__': main()\n",
               0);
    says_exactly("thread\nsandbox 1000 1000 sandbox\n");
    stage_run_close(&run);
}

static void environment_is_made_from_nothing(void **state)
{
    start_over(STAGE_BASH, "env -u _ -u SHLVL -u PWD | sort\n");
    stage_peer_instructions(&stage, run.digest, "Do it well.");
    run.job = "{\"env\": {\"GREETING\": \"a=b\", \"TZ\": \"Europe/Bern\"}}";
    run_script(STAGE_BASH, NULL, 0);
    says_exactly("GREETING=a=b\n"
                 "HOME=/tmp\n"
                 "LANG=C.UTF-8\n"
                 "PATH=/usr/local/bin:/usr/bin:/bin\n"
                 "PYTHONDONTWRITEBYTECODE=1\n"
                 "SANDBOX_FILES_DIR=/sandbox/out/files\n"
                 "SANDBOX_INPUT={}\n"
                 "SANDBOX_INPUT_DIR=/sandbox/input\n"
                 "SANDBOX_OUTPUT=/sandbox/out/output.json\n"
                 "SKILL_DIR=/skill\n"
                 "SKILL_INSTRUCTIONS=Do it well.\n"
                 "TZ=Europe/Bern\n");
    stage_run_close(&run);
}

static void long_input_is_in_the_file_only(void **state)
{
    size_t len = 2 * SB_MIB;
    char *input = malloc(len + 1);

    assert_non_null(input);
    memset(input, ' ', len);
    memcpy(input, "[1]", 3);
    input[len] = '\0';
    start_over(STAGE_BASH,
               "echo ${SANDBOX_INPUT-none} $(stat -c %s /sandbox/input.json) $(wc -c)\n");
    run.input = input;
    run_script(STAGE_BASH, NULL, 0);
    says_exactly("none 2097152 2097152\n");
    stage_run_close(&run);
    free(input);
}

static void arguments_stdin_and_input_files_arrive(void **state)
{
    start_over(STAGE_BASH, "printf '<%s>' \"$@\"; echo; od -An -c; cd input; cat a.txt b/c.txt\n"
                           "echo x > a.txt; touch new; ls -l /proc/self/fd | wc -l\n");
    run.job = "{\"args\": [\"a b\", \"\", \"$HOME\"], \"stdin\": \"q\\u0000\\n\","
              " \"files\": {\"a.txt\": \"aGk=\", \"b/c.txt\": \"\"}}";
    run_script(STAGE_BASH, NULL, 0);
    says("<a b><><$HOME>\n   q  \\0  \\n\nhi"); /* then: total, 0, 1, 2 and the folder itself */
    says("5\n");
    assert_non_null(strstr(run.stderr_text, "a.txt: Read-only file system"));
    assert_non_null(strstr(run.stderr_text, "'new': Read-only file system"));
    stage_run_close(&run);
}

/* Their contents stand behind the input in the job's memfd. */
static void files_behind_the_input_are_put_in_place(void **state)
{
    start_over(STAGE_BASH, "cat input/a input/d/b; wc -c < input/none; cat input.json\n");
    run.job = "{\"files\": {\"f\": \"\"}, \"input_files\": [{\"path\": \"a\", \"size\": 3},"
              " {\"path\": \"none\", \"size\": 0}, {\"path\": \"d/b\", \"size\": 4}]}";
    run.input_files = "one\ntwo";
    run_script(STAGE_BASH, NULL, 0);
    says_exactly("one\ntwo0\n{}");
    stage_run_close(&run);
}

static void script_mode_works_in_a_copy_of_the_package(void **state)
{
    struct stat st;

    start_over(STAGE_PYTHON, "");
    stage_peer_add(&stage, run.digest, "scripts/tool.py",
                   "import os, common.util\n"
                   "print(os.getcwd(), common.util.X, sorted(os.listdir('.')))\n"
                   "print(open('assets/logo').read(), open('own/f').read(), open('data').read())\n"
                   "open('made', 'w').write('new')\n"
                   "open('changed', 'a').write('!')\n");
    stage_peer_add(&stage, run.digest, "common/util.py", "X = 5\n");
    stage_peer_add(&stage, run.digest, "assets/logo", "logo");
    stage_peer_add(&stage, run.digest, "data", "the package's");
    run.mode = STAGE_SCRIPT;
    run.target = "scripts/tool.py";
    run.job = "{\"files\": {\"own/f\": \"aGk=\", \"data\": \"bWluZQ==\", \"changed\": \"\"}}";
    run_script(STAGE_PYTHON, NULL, 0);
    says_exactly(
        "/sandbox/work 5 ['assets', 'changed', 'common', 'data', 'main', 'own', 'scripts']\n"
        "logo hi mine\n");
    assert_int_equal(fstatat(run.work, "own/f", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(st.st_mtim.tv_sec, STAGE_WORK_MTIME_SEC);
    assert_int_equal(st.st_mtim.tv_nsec, STAGE_WORK_MTIME_NSEC);
    assert_int_equal(fstatat(run.work, "changed", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_not_equal(st.st_mtim.tv_sec, STAGE_WORK_MTIME_SEC);
    assert_int_equal(fstatat(run.work, "assets", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_string_equal(stage_run_file(run.work, "made"), "new");
    stage_run_close(&run);
}

static void module_mode_runs_a_package_module(void **state)
{
    start_over(STAGE_PYTHON, "");
    stage_peer_add(&stage, run.digest, "tools/go.py",
                   "import sys\nprint(__name__, sys.argv[1:])\n");
    run.mode = STAGE_MODULE;
    run.target = "tools.go";
    run.job = "{\"args\": [\"--x\"]}";
    run_script(STAGE_PYTHON, NULL, 0);
    says_exactly("__main__ ['--x']\n");
    stage_run_close(&run);
}

/* ---- endings ---- */

static void signals_are_reported_as_such(void **state)
{
    start_over(STAGE_BASH, "kill -TERM $$; sleep 60\n");
    stage_peer_run(&stage, &run);
    assert_true(run.ended);
    assert_true(WIFSIGNALED(run.wstatus));
    assert_int_equal(WTERMSIG(run.wstatus), SIGTERM);
    assert_int_equal(run.setup.kind, 0);
    stage_run_close(&run);
}

static void daemons_die_with_the_run(void **state)
{
    run_script(STAGE_BASH,
               "( setsid bash -c 'trap \"\" TERM HUP INT; echo daemon; sleep 1000' & ) \n"
               "while ! grep -qs sleep /proc/[0-9]*/comm; do :; done; echo main\n",
               0);
    says("daemon\n");
    says("main\n");
    assert_true(run.eof); /* the daemon held the log pipe: nobody does any more */
    stage_run_close(&run);
}

static void pidfd_kills_everything(void **state)
{
    start_over(STAGE_BASH, "trap '' TERM INT; sleep 1000 & sleep 1000 & echo on; wait\n");
    run.kill_after_ms = 300;
    stage_peer_run(&stage, &run);
    assert_true(run.ready);
    assert_false(run.ended);
    says_exactly("on\n");
    assert_true(WIFSIGNALED(run.exited.wstatus));
    assert_int_equal(WTERMSIG(run.exited.wstatus), SIGKILL);
    assert_true(run.eof);
    assert_int_equal(faccessat(run.out, "files", F_OK, 0), 0); /* results stay readable */
    stage_run_close(&run);
}

static void a_run_that_is_told_to_stop_reports_all_its_time(void **state)
{
    start_over(STAGE_BASH, "trap '' TERM INT; ( while :; do :; done ) & echo on; kill -STOP $$\n");
    run.kill_after_ms = 1000;
    run.stop = true;
    stage_peer_run(&stage, &run);
    assert_true(run.ready);
    assert_false(run.ended);
    says_exactly("on\n");
    assert_true(WIFEXITED(run.exited.wstatus));
    assert_int_equal(WEXITSTATUS(run.exited.wstatus), 0);
    assert_in_range(run.exited.cpu_usec, 50000, 10000000); /* and not only pid 1's own */
    assert_true(run.eof);
    stage_run_close(&run);
}

static void cpu_time_is_reported_and_bounded(void **state)
{
    static const struct {
        const char *script;
        int signal;
    } cases[] = {{"( while :; do :; done ) & while :; do :; done\n", SIGXCPU},
                 {"trap '' XCPU; while :; do :; done\n", SIGKILL}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        start_over(STAGE_BASH, cases[i].script);
        run.cpu_seconds = 1;
        stage_peer_run(&stage, &run);
        assert_true(run.ended);
        assert_true(WIFSIGNALED(run.wstatus));
        assert_int_equal(WTERMSIG(run.wstatus), cases[i].signal);
        /* the limit is counted in clock ticks, what is reported is not: on a busy host they differ
         */
        assert_in_range(run.exited.cpu_usec, 500000, 10000000);
        assert_true(run.exited.maxrss > 0);
        stage_run_close(&run);
    }
}

/* ---- nothing is left ---- */

static void a_run_sees_nothing_of_another(void **state)
{
    static const char script[] =
        "find /tmp /dev/shm /sandbox/out /sandbox/work /sandbox/input -mindepth 1 | sort\n"
        "set -- /proc/[0-9]*; echo $#\n"
        "for d in /tmp /dev/shm /sandbox/out /sandbox/work; do echo mine > $d/mine; done\n";

    for (int i = 0; i < 2; i++) {
        run_script(STAGE_BASH, i == 0 ? script : NULL, 0);
        says_exactly("/sandbox/out/files\n2\n"); /* init and bash */
        assert_string_equal(stage_run_file(run.out, "mine"), "mine\n");
        stage_run_close(&run);
    }
}

static long stage_rss_pages(void)
{
    char path[64];
    long size = 0, rss = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/statm", stage.pid);
    f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld %ld", &size, &rss), 2);
    fclose(f);
    return rss;
}

static void many_runs_leave_the_stage_as_it_was(void **state)
{
    char path[64], children[256] = "";
    long before = 0;
    FILE *f;

    start_over(STAGE_BASH, "exit 5\n");
    for (int i = 0; i < 120; i++) {
        run_script(STAGE_BASH, NULL, 5);
        stage_run_close(&run);
        if (i == 20)
            before = stage_rss_pages();
    }
    assert_true(stage_rss_pages() <= before + 2);
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", stage.pid, stage.pid);
    f = fopen(path, "r");
    assert_non_null(f);
    assert_null(fgets(children, sizeof(children), f));
    fclose(f);
}

/* ---- confinement, as the script meets it ---- */

static void the_root_holds_the_fixed_set_and_nothing_is_writable(void **state)
{
    char job[128]; /* the folder of all packages, by its name on the host */

    start_over(STAGE_BASH,
               "ls -A / | grep -v '^lib\\|^bin$\\|^sbin$' | tr '\\n' ' '; echo\n"
               "for f in /x /usr/x /etc/x /dev/x /skill/x /sandbox/x /sandbox/input/x /proc/x\\\n"
               "    /proc/self/oom_score_adj /etc/passwd /sandbox/input.json /skill/main; do\n"
               "    ( echo 1 > $f ) 2> /dev/null && echo \"wrote $f\"\n"
               "done\n"
               "for f in /root /home /var /run /sys /proc/sys /etc/shadow /dev/tty \"$1\"; do\n"
               "    test -e $f && echo \"there is $f\"\n"
               "done\n"
               "find /.packages -mindepth 1\n"
               "cp /bin/true /tmp/true; /tmp/true 2> /dev/null && echo executed\n"
               "ls /proc/1/root/ /proc/1/cwd/ /proc/1/fd/ 2> /dev/null\n"
               "echo end\n");
    snprintf(job, sizeof(job), "{\"args\": [\"%s\"]}", stage.dir);
    run.job = job;
    run_script(STAGE_BASH, NULL, 0);
    says_exactly(".packages .ready dev etc proc sandbox skill tmp usr \nend\n");
    stage_run_close(&run);
}

static void privileges_are_gone(void **state)
{
    run_script(
        STAGE_PYTHON,
        "import os, re\n"
        "s = dict(re.findall(r'(\\w+):[ \\t]*(.*?) *\\n', open('/proc/self/status').read()))\n"
        "for k in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'):\n"
        "    assert int(s[k], 16) == 0, k\n"
        "assert s['NoNewPrivs'] == '1' and s['Seccomp'] == '2', s\n"
        "assert s['Pid'] == '2' and s['PPid'] == '1', s\n"
        "assert int(s['SigBlk'], 16) == 0\n"
        "for n in ('cap', 'mem', 'root', 'fd', 'environ'):\n"
        "    try: open('/proc/1/' + n, 'rb').read(1); assert n == 'cap', n\n"
        "    except OSError: pass\n"
        "assert os.listdir('/proc/self/fd') == ['0', '1', '2', '3'], os.listdir('/proc/self/fd')\n"
        "print('ok')\n",
        0);
    says_exactly("ok\n");
    stage_run_close(&run);
}

/* Numbers where they differ between architectures come from the C library the test was built with.
 */
#define CALL(name) "    ('" #name "', %d),\n"

static void forbidden_system_calls_fail_as_documented(void **state)
{
    static char script[8192];

    snprintf(
        script, sizeof(script),
        "import ctypes, errno, os, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def call(nr, *args):\n"
        "    ctypes.set_errno(0)\n"
        "    rc = libc.syscall(ctypes.c_long(nr), *[ctypes.c_long(a) for a in args])\n"
        "    return errno.errorcode.get(ctypes.get_errno(), '?') if rc < 0 else 'done'\n"
        "eperm = [\n" CALL(ptrace) CALL(mount) CALL(umount2) CALL(pivot_root) CALL(chroot) CALL(
            unshare) CALL(setns) CALL(process_vm_readv) CALL(keyctl) CALL(bpf) CALL(perf_event_open)
            CALL(userfaultfd) CALL(splice) CALL(tee) CALL(vmsplice) CALL(name_to_handle_at) CALL(
                open_by_handle_at) CALL(setuid) CALL(setgroups) CALL(capset) CALL(sethostname)
                CALL(shmget) CALL(msgget) CALL(mq_open) CALL(sched_setaffinity) CALL(setpriority)
                    CALL(sync) CALL(seccomp) CALL(syslog) CALL(clock_settime) CALL(io_setup)
                        CALL(fanotify_init) "    ('open_tree', 428), ('fsopen', 430), "
                                            "('mount_setattr', 442), ('pidfd_getfd', 438),\n"
                                            "    ('beyond the table', 1000)]\n"
                                            "enosys = [('clone3', 435), ('io_uring_setup', 425), "
                                            "('memfd_secret', 447),\n"
                                            "          ('landlock_create_ruleset', 444), "
                                            "('statmount', 457)]\n"
                                            "for name, nr in eperm:\n"
                                            "    r = call(nr, 0, 0, 0, 0, 0)\n"
                                            "    if r != 'EPERM': print(name, r)\n"
                                            "for name, nr in enosys:\n"
                                            "    r = call(nr, 0, 0, 0, 0, 0)\n"
                                            "    if r != 'ENOSYS': print(name, r)\n"
                                            "clone, ioctl, sock, mfd, prl, fcntl = %d, %d, %d, %d, "
                                            "%d, %d\n"
                                            "for flag in (0x20000, 0x2000000, 0x4000000, "
                                            "0x8000000, 0x10000000, 0x20000000, 0x40000000):\n"
                                            "    r = call(clone, flag | 17, 0, 0, 0, 0)\n"
                                            "    if r == 'done': os._exit(9)\n"
                                            "    if r != 'EPERM': print('clone', hex(flag), r)\n"
                                            "for cmd in (0x5412, 0x100005412, 0x541c, "
                                            "0x7fffffff0000541c):\n"
                                            "    if call(ioctl, 1, cmd, 0) != 'EPERM': "
                                            "print('ioctl', hex(cmd))\n"
                                            "for family in (3, 5, 9, 15, 16, 17, 29, 30, 31, 38, "
                                            "40, 44, 255):\n"
                                            "    if call(sock, family, 3, 0) != 'EAFNOSUPPORT': "
                                            "print('socket', family)\n"
                                            "for kind, proto in ((3, 0), (3, 1), (1, 132), (1, "
                                            "262), (2, 1), (2, 136)):\n"
                                            "    if call(sock, 2, kind, proto) != 'EPERM': "
                                            "print('socket inet', kind, proto)\n"
                                            "if call(mfd, 0, 0) != 'EPERM': print('memfd_create')\n"
                                            "if call(prl, 1, 0, 0, 0) != 'EPERM': print('prlimit "
                                            "of pid 1')\n"
                                            "for cmd in (1024, 1026, 1031):\n"
                                            "    if call(fcntl, 1, cmd, 0) != 'EPERM': "
                                            "print('fcntl', cmd)\n"
                                            "print('end')\n",
        SYS_ptrace, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_unshare, SYS_setns,
        SYS_process_vm_readv, SYS_keyctl, SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_splice,
        SYS_tee, SYS_vmsplice, SYS_name_to_handle_at, SYS_open_by_handle_at, SYS_setuid,
        SYS_setgroups, SYS_capset, SYS_sethostname, SYS_shmget, SYS_msgget, SYS_mq_open,
        SYS_sched_setaffinity, SYS_setpriority, SYS_sync, SYS_seccomp, SYS_syslog,
        SYS_clock_settime, SYS_io_setup, SYS_fanotify_init, SYS_clone, SYS_ioctl, SYS_socket,
        SYS_memfd_create, SYS_prlimit64, SYS_fcntl);
    run_script(STAGE_PYTHON, script, 0);
    says_exactly("end\n");
    stage_run_close(&run);
}

#ifdef __x86_64__
static void foreign_system_call_tables_kill(void **state)
{
    start_over(STAGE_PYTHON, "import ctypes\nprint('on', flush=True)\n"
                             "ctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 + 39))\n");
    stage_peer_run(&stage, &run);
    says_exactly("on\n");
    assert_true(run.ended);
    assert_true(WIFSIGNALED(run.wstatus));
    assert_int_equal(WTERMSIG(run.wstatus), SIGSYS);
    assert_false(WCOREDUMP(run.wstatus));
    stage_run_close(&run);
}
#endif

static void limits_bite(void **state)
{
    run_script(STAGE_PYTHON,
               "import errno, os\n"
               "try: bytearray(1 << 30); print('memory')\n"
               "except MemoryError: pass\n"
               "for d in ('/tmp', '/dev/shm', '/sandbox/out', '/sandbox/work'):\n"
               "    try:\n"
               "        with open(d + '/fill', 'wb', 0) as f:\n"
               "            for i in range(64): f.write(bytes(1 << 20))\n"
               "        print('size', d)\n"
               "    except OSError as e: assert e.errno == errno.ENOSPC, e\n"
               "try:\n"
               "    for i in range(5000): open('/sandbox/work/%d' % i, 'w').close()\n"
               "    print('inodes')\n"
               "except OSError as e: assert e.errno == errno.ENOSPC, e\n"
               "try: os.truncate('/tmp/fill', 1 << 40); print('sparse')\n"
               "except OSError as e: assert e.errno == errno.EFBIG, e\n"
               "n = 0\n"
               "try:\n"
               "    while n < 1000:\n"
               "        if os.fork() == 0: os.pause() if hasattr(os, 'pause') else "
               "__import__('signal').pause()\n"
               "        n += 1\n"
               "except BlockingIOError: pass\n"
               "print('forks', 50 < n < 64)\n",
               0);
    says_exactly("forks True\n");
    stage_run_close(&run);
}

static void v1_groups_are_entered_at_birth(void **state)
{
    char text[8] = "";

    start_over(STAGE_PYTHON, "print('ok')\n");
    run.cgroup = 1;
    run.ncgroups = 2;
    run.cgroup_fd = memfd_create("tasks", MFD_CLOEXEC);
    run_script(STAGE_PYTHON, NULL, 0);
    says_exactly("ok\n");
    assert_int_equal(pread(run.cgroup_fd, text, sizeof(text), 0), 2);
    assert_string_equal(text, "00");
    close(run.cgroup_fd);
    stage_run_close(&run);
}

static void a_sandbox_is_in_the_groups_it_was_asked_for_or_not_at_all(void **state)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    start_over(STAGE_BASH, "echo ran");
    run.cgroup_fd = null;
    run.cgroup = run.ncgroups = 1;
    run_setup_fails("cgroup", EBADF);
    run.ncgroups = 0;
    run_setup_fails("cgroup", EPROTO);
    run.cgroup = 0;
    run.ncgroups = 1;
    run_setup_fails("cgroup", EPROTO);
    run.cgroup = 3;
    run_setup_fails("cgroup", EPROTO);
    /* v2: it is born there, and no group is /dev/null */
    run.cgroup = 2;
    stage_peer_run(&stage, &run);
    assert_int_equal(run.failed.kind, STAGE_FAILED);
    assert_string_equal(run.failed.failed_step, "clone");
    assert_int_equal(run.failed.failed_errno, EBADF);
    close(null);
}

/* Only where there is no clone3: what looks like a group's folder is then a folder with that file.
 */
static void without_clone3_a_v2_group_is_entered(void **state)
{
    char path[128], text[8] = "";
    int dir, procs;

    stage_peer_stop(&stage);
    stage.no_clone3 = true;
    stage_peer_start(&stage);
    start_over(STAGE_BASH, "echo ran");
    snprintf(path, sizeof(path), "%s/group", stage.dir);
    assert_int_equal(mkdir(path, 0755), 0);
    dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    run.cgroup = 2;
    run.ncgroups = 1;
    run.cgroup_fd = dir;
    run_setup_fails("cgroup", ENOENT);
    procs = openat(dir, "cgroup.procs", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    run_script(STAGE_BASH, NULL, 0);
    says_exactly("ran\n");
    assert_int_equal(pread(procs, text, sizeof(text), 0), 1);
    assert_string_equal(text, "0");
    stage_run_close(&run);
    close(procs);
    close(dir);
    stage_peer_stop(&stage);
    stage.no_clone3 = false;
    stage_peer_start(&stage);
}

/* ---- sandboxes made ahead ---- */

static void a_sandbox_waits_for_its_run(void **state)
{
    start_over(STAGE_BASH, "ls -A /tmp /dev/shm /sandbox/work; echo \"$SANDBOX_INPUT\"\n");
    run.input = "{\"n\":1}";
    run.wait_ms = 200;
    run_script(STAGE_BASH, NULL, 0);
    assert_non_null(strstr(run.stdout_text, "{\"n\":1}\n"));
    stage_run_close(&run);
}

static void a_sandbox_that_gets_no_run_ends_with_its_socket(void **state)
{
    stage_request_t ask = {.magic = STAGE_MAGIC, .kind = STAGE_RUN, .seq = ++stage.seq};
    stage_event_t event = {0};
    int pair[2], pidfd = -1, nfds;

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(sys_send_fds(stage.sock, &ask, sizeof(ask), &pair[1], 1), 0);
    close(pair[1]);
    assert_int_equal(sys_recv_fds(stage.sock, &event, sizeof(event), &pidfd, 1, &nfds),
                     sizeof(event));
    assert_int_equal(event.kind, STAGE_SPAWNED);
    usleep(100000);
    assert_int_equal(kill(event.pid, 0), 0); /* it waits */
    close(pair[0]);
    assert_int_equal(sys_recv_fds(stage.sock, &event, sizeof(event), NULL, 0, &nfds),
                     sizeof(event));
    assert_int_equal(event.kind, STAGE_EXITED);
    assert_int_equal(event.wstatus, 0);
    close(pidfd);
}

/* ---- failures of the set-up ---- */

static void wrong_requests_fail_at_their_step(void **state)
{
    start_over(STAGE_BASH, "echo ran\n");
    run.extra_fds = 1;
    run_setup_fails("request", EPROTO);
    run.extra_fds = 0;
    run.target = "missing";
    run_setup_fails("target", ENOENT);
    run.target = "../main";
    run_setup_fails("target", EINVAL);
    run.target = NULL;
    run.lang = 7;
    run_setup_fails("interpreter", ENOENT);
    run.lang = STAGE_BASH;
    memset(run.digest, 'e', 64);
    run_setup_fails("package", ENOENT);
    strcpy(run.digest, "../..");
    run_setup_fails("package", EINVAL);
}

static void wrong_jobs_fail_with_a_sentence(void **state)
{
    static const char *const jobs[][2] = {
        {"{", "the job is not valid JSON"},
        {"{\"args\": 1}", "job member \"args\" has the wrong type"},
        {"{\"args\": [1]}", "args[0] is not a string"},
        {"{\"args\": [\"a\\u0000b\"]}", "args[0] is not a string"},
        {"{\"env\": {\"LD_PRELOAD\": \"x\"}}", "environment name \"LD_PRELOAD\" is not allowed"},
        {"{\"env\": {\"A=B\": \"x\"}}", "environment name \"A=B\" is not allowed"},
        {"{\"env\": {\"A\": 1}}", "env \"A\" is not a string"},
        {"{\"files\": {\"../x\": \"\"}}", "file name \"../x\" is not allowed"},
        {"{\"files\": {\"/x\": \"\"}}", "file name \"/x\" is not allowed"},
        {"{\"files\": {\"x\": \"a*==\"}}", "file \"x\" is not valid base64"},
        {"{\"files\": {\"x\": \"\", \"x/y\": \"\"}}", "file \"x/y\" can't be written"},
        {"{\"input_files\": {}}", "job member \"input_files\" has the wrong type"},
        {"{\"input_files\": [5]}", "input_files[0] has no path"},
        {"{\"input_files\": [{\"path\": \"../a\", \"size\": 1}]}", "input_files[0] has no path"},
        {"{\"input_files\": [{\"path\": \"a\"}]}", "input file \"a\" has no size"},
        {"{\"input_files\": [{\"path\": \"a\", \"size\": -1}]}", "input file \"a\" has no size"},
        {"{\"input_files\": [{\"path\": \"a\", \"size\": 99999999999}]}",
         "input file \"a\" has no size"},
        {"{\"input_files\": [{\"path\": \"a\", \"size\": 1}]}", /* there is none */
         "input file \"a\" can't be written"},
        {"[]", "the job is not a JSON object"},
    };

    start_over(STAGE_BASH, "echo ran\n");
    for (size_t i = 0; i < sizeof(jobs) / sizeof(jobs[0]); i++) {
        run.job = jobs[i][0];
        stage_peer_run(&stage, &run);
        assert_int_equal(run.setup.kind, RUN_SETUP_FAILED);
        assert_int_equal(run.outlen, 0);
        if (strstr(run.setup.text, jobs[i][1]) == NULL)
            fail_msg("%s: %s: %s", run.job, run.setup.failed_step, run.setup.text);
        stage_run_close(&run);
    }
}

static void what_does_not_fit_execve_fails_at_exec(void **state)
{
    size_t arg = 100 * SB_KIB, len = 0;
    char *job = malloc(40 * (arg + 8));

    assert_non_null(job);
    len += (size_t)sprintf(job, "{\"args\": [");
    for (int i = 0; i < 30; i++) {
        len += (size_t)sprintf(job + len, "%s\"", i ? "," : "");
        memset(job + len, 'x', arg);
        len += arg;
        job[len++] = '"';
    }
    strcpy(job + len, "]}");
    start_over(STAGE_BASH, "echo ran\n");
    run.job = job;
    stage_peer_run(&stage, &run);
    free(job);
    assert_string_equal(run.setup.failed_step, "exec");
    assert_int_equal(run.setup.failed_errno, E2BIG);
    assert_false(run.ended);
    stage_run_close(&run);
}

static void a_stage_that_cannot_work_says_why(void **state)
{
    static const struct {
        const char *readonly, *interpreter, *packages, *step;
        int err;
    } cases[] = {
        {"/opt/../etc", NULL, NULL, "read-only path /opt/../etc", EINVAL},
        {"/tmp/x", NULL, NULL, "read-only path /tmp/x", EINVAL},
        {"/no/such/path", NULL, NULL, "read-only path /no/such/path", ENOENT},
        {"", "/opt/none/bin/python", NULL, "interpreter /opt/none/bin/python", ENOENT},
        {"", NULL, "/no/such/packages", "packages", ENOENT},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        stage_peer_t other = stage;

        strcpy(other.config.readonly[0], cases[i].readonly);
        if (cases[i].interpreter)
            strcpy(other.config.runtimes[STAGE_NODE].interpreter, cases[i].interpreter);
        if (cases[i].packages)
            strcpy(other.config.packages, cases[i].packages);
        stage_peer_start_any(&other);
        assert_false(other.hello.ok);
        assert_string_equal(other.hello.failed_step, cases[i].step);
        assert_int_equal(other.hello.failed_errno, cases[i].err);
        stage_peer_stop(&other);
    }
}

/* ---- other configurations ---- */

static void operators_paths_full_proc_and_exec_are_honoured(void **state)
{
    stage_peer_t other = stage;

    strcpy(other.config.readonly[0], "/var/lib/dpkg");
    strcpy(other.config.readonly[1], "/etc/debian_version");
    strcpy(other.config.readonly[2], "/lib/os-release"); /* in /usr already */
    other.config.proc_full = 1;
    other.config.exec_writable = 1;
    stage_peer_start(&other);
    start_over(STAGE_BASH,
               "test -s /var/lib/dpkg/status && test -s /etc/debian_version && ls /var\n"
               "grep -o MemTotal /proc/meminfo; cat /proc/kallsyms /proc/cmdline /proc/keys\n"
               "( echo 1 > /proc/sys/kernel/ns_last_pid ) 2> /dev/null && echo wrote\n"
               "( echo 1 > /var/lib/dpkg/x ) 2> /dev/null && echo wrote\n"
               "cp /bin/true /tmp/true && /tmp/true && echo executed\n");
    other.packages = stage.packages;
    stage_peer_run(&other, &run);
    assert_true(run.ended);
    says_exactly("lib\nMemTotal\nexecuted\n");
    stage_run_close(&run);
    stage_peer_stop(&other);
}

static void a_masked_proc_is_refused_unless_waived(void **state)
{
    stage_peer_t other = stage;

    other.masked_proc = true;
    stage_peer_start_any(&other);
    assert_false(other.hello.ok);
    assert_string_equal(other.hello.failed_step, "mount proc");
    assert_int_equal(other.hello.failed_errno, EPERM);
    stage_peer_stop(&other);
    other.config.allow_no_proc = 1;
    stage_peer_start(&other);
    assert_true(other.hello.missing & STAGE_NO_PROC);
    start_over(STAGE_PYTHON, "import os\nprint(os.listdir('/proc'))\n");
    stage_peer_run(&other, &run);
    assert_true(run.ended);
    says_exactly("[]\n");
    stage_run_close(&run);
    stage_peer_stop(&other);
}

static void runs_die_with_the_stage(void **state)
{
    stage_peer_t other = stage;
    int wstatus;

    stage_peer_start(&other);
    start_over(STAGE_BASH, "echo on; sleep 1000\n");
    stage_peer_orphan(&other, &run);
    says_exactly("on\n");
    assert_true(run.eof);
    assert_int_equal(waitpid(other.pid, &wstatus, 0), other.pid);
    assert_true(WIFSIGNALED(wstatus));
    close(other.sock);
}

static int start(void **state)
{
    stage_peer_start(&stage);
    return 0;
}

static int stop(void **state)
{
    stage_peer_stop(&stage);
    stage_peer_remove(&stage);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(python_runs_with_input_and_output),
        cmocka_unit_test(node_runs_with_threads_and_children),
        cmocka_unit_test(python_has_processes_threads_sockets_and_sqlite),
        cmocka_unit_test(environment_is_made_from_nothing),
        cmocka_unit_test(long_input_is_in_the_file_only),
        cmocka_unit_test(arguments_stdin_and_input_files_arrive),
        cmocka_unit_test(files_behind_the_input_are_put_in_place),
        cmocka_unit_test(script_mode_works_in_a_copy_of_the_package),
        cmocka_unit_test(module_mode_runs_a_package_module),
        cmocka_unit_test(signals_are_reported_as_such),
        cmocka_unit_test(daemons_die_with_the_run),
        cmocka_unit_test(pidfd_kills_everything),
        cmocka_unit_test(a_run_that_is_told_to_stop_reports_all_its_time),
        cmocka_unit_test(cpu_time_is_reported_and_bounded),
        cmocka_unit_test(a_run_sees_nothing_of_another),
        cmocka_unit_test(many_runs_leave_the_stage_as_it_was),
        cmocka_unit_test(the_root_holds_the_fixed_set_and_nothing_is_writable),
        cmocka_unit_test(privileges_are_gone),
        cmocka_unit_test(forbidden_system_calls_fail_as_documented),
#ifdef __x86_64__
        cmocka_unit_test(foreign_system_call_tables_kill),
#endif
        cmocka_unit_test(limits_bite),
        cmocka_unit_test(v1_groups_are_entered_at_birth),
        cmocka_unit_test(a_sandbox_is_in_the_groups_it_was_asked_for_or_not_at_all),
        cmocka_unit_test(without_clone3_a_v2_group_is_entered),
        cmocka_unit_test(a_sandbox_waits_for_its_run),
        cmocka_unit_test(a_sandbox_that_gets_no_run_ends_with_its_socket),
        cmocka_unit_test(wrong_requests_fail_at_their_step),
        cmocka_unit_test(wrong_jobs_fail_with_a_sentence),
        cmocka_unit_test(what_does_not_fit_execve_fails_at_exec),
        cmocka_unit_test(a_stage_that_cannot_work_says_why),
        cmocka_unit_test(operators_paths_full_proc_and_exec_are_honoured),
        cmocka_unit_test(a_masked_proc_is_refused_unless_waived),
        cmocka_unit_test(runs_die_with_the_stage),
    };

    stage_peer_init(&stage);
    return cmocka_run_group_tests(tests, start, stop);
}
