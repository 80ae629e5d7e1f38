/*
 * fake_program.c - sandbox-stage and sandbox-packer as an attacker would have them:
 * a process that speaks stage.h, and breaks its rules on demand.
 *
 * What it does for a child is told by words that main passes on without looking at
 * them: a run's target, a collect task's skill, what follows "fake=" in an upload's
 * content type.  Each word is one act of the tables below; "well" is an honest one.
 * A child is an idle process for main to kill; what it "says" is said by this one.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../sandbox-helper/stage.h"
#include "../../sandbox-helper/sys.h"

enum { KIDS = 64, TICK_MS = 5, MANY = 12, PAIRS = 32 };

typedef struct {
    uint64_t seq; /* 0: free */
    int status;
    pid_t pid;
    bool waits; /* for its run or task */
} kid_t;

static kid_t kids[KIDS];
static collect_task_t task;
static int answer = -1;  /* of the current task or upload */
static char input[4096]; /* of the current run */
static pid_t flipper;    /* 0: none */

/* ---- what a child says ---- */

static void say(const kid_t *kid, const void *msg, size_t len, const int *fds, int nfds)
{
    if (kid->status >= 0)
        (void)sys_send_fds(kid->status, msg, len, fds, nfds); /* main may have hung up */
}

static void report_with(const kid_t *kid, uint32_t kind, int wstatus, const int *fds, int nfds)
{
    run_report_t r = {.magic = STAGE_MAGIC, .kind = kind, .wstatus = wstatus};

    say(kid, &r, sizeof r, fds, nfds);
}

/* So many descriptors of `fd`. */
static const int *copies(int fd)
{
    static int fds[MANY];

    for (int i = 0; i < MANY; i++)
        fds[i] = fd;
    return fds;
}

/* A folder that is nowhere any more: nothing is found in it. */
static int folder(void)
{
    char name[] = "/tmp/sbfake.XXXXXX";
    int fd = mkdtemp(name) != NULL ? open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    rmdir(name);
    return fd;
}

static void ready(const kid_t *kid)
{
    int fd = folder();

    report_with(kid, RUN_READY, 0, copies(fd), 2);
    close(fd);
}

static void event(uint32_t kind, uint64_t seq, pid_t pid, const int *fds, int nfds)
{
    stage_event_t e = {.magic = STAGE_MAGIC, .kind = kind, .seq = seq, .pid = pid};

    (void)sys_send_fds(SB_STAGE_FD, &e, sizeof e, fds, nfds);
}

static void over(kid_t *kid)
{
    if (kid->pid != 0) {
        kill(kid->pid, SIGKILL);
        waitpid(kid->pid, NULL, 0);
    }
    if (kid->status >= 0)
        close(kid->status);
    event(STAGE_EXITED, kid->seq, kid->pid, NULL, 0);
    kid->seq = 0;
}

/* ---- acts of a run ---- */

static void well(kid_t *kid)
{
    ready(kid);
    report_with(kid, RUN_EXITED, 0, NULL, 0);
    over(kid);
}

static void hold(kid_t *kid)
{
    ready(kid);
}

static void two_ends(kid_t *kid)
{
    ready(kid);
    for (int i = 0; i < 50; i++)
        report_with(kid, RUN_EXITED, i << 8, NULL, 0);
    over(kid);
}

static void two_readies(kid_t *kid)
{
    for (int i = 0; i < 5; i++)
        ready(kid);
    report_with(kid, RUN_EXITED, 0, NULL, 0);
    over(kid);
}

static void end_before_ready(kid_t *kid)
{
    report_with(kid, RUN_EXITED, 0, NULL, 0);
    over(kid);
}

static void ready_with(kid_t *kid, int nfds)
{
    int fd = folder();

    report_with(kid, RUN_READY, 0, copies(fd), nfds);
    close(fd);
    over(kid);
}

static void no_folder(kid_t *kid)
{
    ready_with(kid, 0);
}

static void one_folder(kid_t *kid)
{
    ready_with(kid, 1);
}

static void four_folders(kid_t *kid)
{
    ready_with(kid, 4);
}

static void twelve_folders(kid_t *kid)
{
    ready_with(kid, MANY);
}

static void garbage(kid_t *kid)
{
    char noise[1024];

    for (size_t i = 1; i < sizeof noise; i += 7) {
        for (size_t j = 0; j < i; j++)
            noise[j] = (char)(i * 31 + j * 7);
        say(kid, noise, i, NULL, 0);
    }
    over(kid);
}

static void oversize(kid_t *kid)
{
    static char big[60000];

    say(kid, big, sizeof big, copies(0), MANY);
    over(kid);
}

/* A datagram of no bytes looks like the end; its descriptors come all the same. */
static void empty(kid_t *kid)
{
    say(kid, "", 0, copies(0), MANY);
    over(kid);
}

static void stray_descriptors(kid_t *kid)
{
    run_report_t r = {.kind = RUN_READY};

    for (int i = 0; i < 100; i++)
        say(kid, &r, sizeof r, copies(0), 4);
    well(kid);
}

static void flood(kid_t *kid)
{
    for (int i = 0; i < 20000; i++)
        report_with(kid, 99, 0, NULL, 0);
    well(kid);
}

static void files_for_folders(kid_t *kid)
{
    int pair[2], fds[2] = {memfd_create("f", MFD_CLOEXEC), -1};

    if (pipe2(pair, O_CLOEXEC) == 0) {
        fds[1] = pair[0];
        report_with(kid, RUN_READY, 0, fds, 2);
        close(pair[0]);
        close(pair[1]);
    }
    close(fds[0]);
    report_with(kid, RUN_EXITED, 0, NULL, 0);
    over(kid);
}

static void own_end_for_folders(kid_t *kid)
{
    report_with(kid, RUN_READY, 0, copies(kid->status), 2);
    report_with(kid, RUN_EXITED, 0, NULL, 0);
    over(kid);
}

static void failed(const kid_t *kid, const char *step, char fill)
{
    run_report_t r = {.magic = STAGE_MAGIC, .kind = RUN_SETUP_FAILED, .failed_errno = -1};

    memset(r.failed_step, fill, sizeof r.failed_step);
    memset(r.text, fill, sizeof r.text);
    if (step != NULL)
        snprintf(r.failed_step, sizeof r.failed_step, "%s", step);
    say(kid, &r, sizeof r, NULL, 0);
}

static void unterminated(kid_t *kid)
{
    failed(kid, NULL, 'A');
    over(kid);
}

static void not_text(kid_t *kid)
{
    failed(kid, "job", '\xff');
    over(kid);
}

static void failed_after_ready(kid_t *kid)
{
    ready(kid);
    failed(kid, "job", 'A');
    over(kid);
}

static void odd_status(kid_t *kid)
{
    ready(kid);
    report_with(kid, RUN_EXITED, (int)0xdeadbe7f, NULL, 0);
    over(kid);
}

static void hang_up(kid_t *kid)
{
    close(kid->status);
    kid->status = -1;
}

static void silent(kid_t *kid)
{
    hang_up(kid);
    over(kid);
}

static void runs_on(kid_t *kid)
{
    ready(kid);
    hang_up(kid);
}

static void lingers(kid_t *kid)
{
    ready(kid);
    report_with(kid, RUN_EXITED, 0, NULL, 0);
}

/* The folder that the run's input begins with is both of its folders; its end has come. */
static void end_with_folder(kid_t *kid, int dir)
{
    report_with(kid, RUN_READY, 0, copies(dir), 2);
    close(dir);
    report_with(kid, RUN_EXITED, 0, NULL, 0);
    over(kid);
}

static int folder_of_input(char **rest)
{
    const char *path = strtok_r(input, " \n", rest);

    return path != NULL ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

/* Whose folders are the test's, to be changed while they are collected. */
static void leaves(kid_t *kid)
{
    char *rest;

    end_with_folder(kid, folder_of_input(&rest));
}

/*
 * A script that lives on while its folders are collected: "dead", it goes on exchanging names in
 * them, pair by pair.  The run's input is the folder and the names.
 */
static void flips(kid_t *kid)
{
    const char *names[PAIRS * 2];
    char *rest;
    int dir = folder_of_input(&rest);
    size_t n = 0;

    while (n < PAIRS * 2 && (names[n] = strtok_r(NULL, " \n", &rest)) != NULL)
        n++;
    if (n < 2)
        exit(2);
    flipper = fork();
    if (flipper == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (size_t i = 0;; i = i + 3 < n ? i + 2 : 0)
            renameat2(dir, names[i], dir, names[i + 1], RENAME_EXCHANGE);
    }
    end_with_folder(kid, dir);
}

static void stop_flips(void)
{
    if (flipper <= 0)
        return;
    kill(flipper, SIGKILL);
    waitpid(flipper, NULL, 0);
    flipper = 0;
}

/* ---- acts of the program itself, in the middle of a run ---- */

static void link_unknown_event(kid_t *kid)
{
    event(77, kid->seq, kid->pid, NULL, 0);
}

static void link_garbage(kid_t *kid)
{
    (void)sys_send_fds(SB_STAGE_FD, "garbage", 7, NULL, 0);
}

static void link_oversize(kid_t *kid)
{
    static char big[60000];

    (void)sys_send_fds(SB_STAGE_FD, big, sizeof big, copies(0), MANY);
}

static void link_empty(kid_t *kid)
{
    (void)sys_send_fds(SB_STAGE_FD, "", 0, copies(0), MANY);
}

static void link_many_descriptors(kid_t *kid)
{
    event(STAGE_EXITED, kid->seq, kid->pid, copies(0), MANY);
}

static void link_second_hello(kid_t *kid)
{
    stage_hello_t hello = {.magic = STAGE_MAGIC, .ok = 1};

    (void)sys_send_fds(SB_STAGE_FD, &hello, sizeof hello, NULL, 0);
}

static void link_second_birth(kid_t *kid)
{
    int pidfd = sys_pidfd_open(kid->pid);

    event(STAGE_SPAWNED, kid->seq, kid->pid, &pidfd, 1);
    close(pidfd);
}

static void link_birth_without_descriptor(kid_t *kid)
{
    event(STAGE_SPAWNED, kid->seq, kid->pid, NULL, 0);
}

/* About runs that are none: nobody's harm. */
static void link_strangers(kid_t *kid)
{
    event(STAGE_EXITED, kid->seq + 1000, -1, NULL, 0);
    event(STAGE_FAILED, 0, 1, NULL, 0);
    event(STAGE_EXITED, ~0ull, 0, copies(0), 1);
    well(kid);
}

static void link_second_death(kid_t *kid)
{
    uint64_t seq = kid->seq;

    well(kid);
    event(STAGE_EXITED, seq, 1, NULL, 0);
}

/* Main kills what is born for nobody, through that descriptor: here a file. */
static void link_birth_of_a_stranger(kid_t *kid)
{
    event(STAGE_SPAWNED, kid->seq + 1000, 1, copies(0), 1);
    well(kid);
}

/* ---- acts of a collect or intake child ---- */

static packer_report_t packed(void)
{
    static const char text[] = "{\"status\":\"success\"}";
    packer_report_t r = {.magic = STAGE_MAGIC, .http_status = 200};

    if (sys_write_all(answer, text, sizeof text - 1) == 0)
        r.answer_len = sizeof text - 1;
    memset(r.digest, 'a', sizeof r.digest - 1);
    return r;
}

static void packed_well(kid_t *kid)
{
    packer_report_t r = packed();

    say(kid, &r, sizeof r, NULL, 0);
    over(kid);
}

static void packed_twice(kid_t *kid)
{
    packer_report_t r = packed();

    for (int i = 0; i < 50; i++)
        say(kid, &r, sizeof r, copies(0), i % 5);
    over(kid);
}

static void packed_short(kid_t *kid)
{
    packer_report_t r = packed();

    say(kid, &r, sizeof r - 1, NULL, 0);
    over(kid);
}

static void packed_magic(kid_t *kid)
{
    packer_report_t r = packed();

    r.magic++;
    say(kid, &r, sizeof r, NULL, 0);
    over(kid);
}

static void packed_huge(kid_t *kid)
{
    packer_report_t r = packed();

    r.answer_len = 1 << 20; /* more than there is */
    say(kid, &r, sizeof r, NULL, 0);
    over(kid);
}

static void packed_nothing(kid_t *kid)
{
    packer_report_t r = packed();

    r.answer_len = 0;
    say(kid, &r, sizeof r, NULL, 0);
    over(kid);
}

static void packed_status(kid_t *kid)
{
    packer_report_t r = packed();

    r.http_status = 999;
    memset(r.text, 'A', sizeof r.text);
    say(kid, &r, sizeof r, NULL, 0);
    over(kid);
}

static void packed_files(kid_t *kid)
{
    packer_report_t r = packed();

    r.files = 0xffffffff;
    say(kid, &r, sizeof r, NULL, 0);
    over(kid);
}

static void packed_digest(kid_t *kid)
{
    packer_report_t r = packed();

    memset(r.digest, 0, sizeof r.digest);
    strcpy(r.digest, "../../../../../tmp/sbattack-package");
    say(kid, &r, sizeof r, NULL, 0);
    over(kid);
}

/* "The folder is synced", before anybody asked. */
static void packed_early(kid_t *kid)
{
    say(kid, "d", 1, NULL, 0);
    over(kid);
}

static void packed_unsynced(kid_t *kid)
{
    packer_report_t r = packed();

    r.files = 1;
    say(kid, &r, sizeof r, NULL, 0);
    over(kid);
}

static const struct {
    const char *word;
    void (*act)(kid_t *kid);
} run_acts[] =
    {
        {"well", well},
        {"hold", hold},
        {"two-ends", two_ends},
        {"two-readies", two_readies},
        {"end-before-ready", end_before_ready},
        {"no-folder", no_folder},
        {"one-folder", one_folder},
        {"four-folders", four_folders},
        {"twelve-folders", twelve_folders},
        {"garbage", garbage},
        {"oversize", oversize},
        {"empty", empty},
        {"stray-descriptors", stray_descriptors},
        {"flood", flood},
        {"files-for-folders", files_for_folders},
        {"own-end-for-folders", own_end_for_folders},
        {"unterminated", unterminated},
        {"not-text", not_text},
        {"failed-after-ready", failed_after_ready},
        {"odd-status", odd_status},
        {"silent", silent},
        {"runs-on", runs_on},
        {"lingers", lingers},
        {"flips", flips},
        {"leaves", leaves},
        {"link-unknown-event", link_unknown_event},
        {"link-garbage", link_garbage},
        {"link-oversize", link_oversize},
        {"link-empty", link_empty},
        {"link-many-descriptors", link_many_descriptors},
        {"link-second-hello", link_second_hello},
        {"link-second-birth", link_second_birth},
        {"link-birth-without-descriptor", link_birth_without_descriptor},
        {"link-strangers", link_strangers},
        {"link-second-death", link_second_death},
        {"link-birth-of-a-stranger", link_birth_of_a_stranger},
},
  packer_acts[] = {
      {"well", packed_well},
      {"twice", packed_twice},
      {"short", packed_short},
      {"magic", packed_magic},
      {"huge", packed_huge},
      {"nothing", packed_nothing},
      {"status", packed_status},
      {"files", packed_files},
      {"digest", packed_digest},
      {"early", packed_early},
      {"unsynced", packed_unsynced},
      {"garbage", garbage},
      {"oversize", oversize},
      {"empty", empty},
      {"silent", silent},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void act(kid_t *kid, bool packer, const char *word)
{
    size_t n = packer ? COUNT(packer_acts) : COUNT(run_acts);

    for (size_t i = 0; i < n; i++) {
        if (strcmp(packer ? packer_acts[i].word : run_acts[i].word, word) != 0)
            continue;
        (packer ? packer_acts[i].act : run_acts[i].act)(kid);
        return;
    }
    fprintf(stderr, "fake: no act \"%s\"\n", word);
    exit(2);
}

/* ---- the program ---- */

static void close_all(const int *fds, int nfds)
{
    for (int i = 0; i < nfds; i++)
        close(fds[i]);
}

static void spawn(const stage_request_t *request, int status)
{
    kid_t *kid = kids;
    int pidfd;

    while (kid < kids + KIDS && kid->seq != 0)
        kid++;
    if (kid == kids + KIDS)
        exit(3);
    *kid = (kid_t){.seq = request->seq, .status = status, .pid = fork(), .waits = true};
    if (kid->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sys_close_range(SB_STAGE_FD, ~0u, 0);
        for (;;)
            pause();
    }
    pidfd = sys_pidfd_open(kid->pid);
    event(STAGE_SPAWNED, kid->seq, kid->pid, &pidfd, 1);
    close(pidfd);
    if (request->kind == STAGE_INTAKE) {
        const char *word = strstr(request->content_type, "fake=");

        kid->waits = false;
        act(kid, true, word != NULL ? word + strlen("fake=") : "");
    }
}

static void on_control(void)
{
    static stage_request_t request;
    int fds[STAGE_FDS_MAX], nfds;
    ssize_t n = sys_recv_fds(SB_STAGE_FD, &request, sizeof request, fds, STAGE_FDS_MAX, &nfds);

    if (n != (ssize_t)sizeof request || nfds == 0) {
        stop_flips();
        exit(0);
    }
    answer = request.kind == STAGE_INTAKE ? fds[3] : -1;
    spawn(&request, fds[0]);
    close_all(fds + 1, nfds - 1);
}

/* The run or the task of a child that waited for it. */
static void on_status(kid_t *kid)
{
    static union {
        stage_request_t run;
        collect_task_t task;
    } m;
    int fds[STAGE_FDS_MAX], nfds;
    ssize_t n = sys_recv_fds(kid->status, &m, sizeof m, fds, STAGE_FDS_MAX, &nfds);

    kid->waits = false;
    if (n <= 0) {
        over(kid);
        return;
    }
    if (n == (ssize_t)sizeof task) {
        answer = fds[nfds - 1 - (m.task.have_archive != 0)];
        task = m.task;
        act(kid, true, task.skill);
    } else {
        ssize_t got = pread(fds[0], input, sizeof input - 1, (off_t)m.run.job_len);

        input[got > 0 ? got : 0] = '\0';
        stop_flips();
        act(kid, false, m.run.target);
    }
    close_all(fds, nfds);
}

/* Main has killed some. */
static void reap(void)
{
    for (int i = 0; i < KIDS; i++) {
        if (kids[i].seq != 0 && waitpid(kids[i].pid, NULL, WNOHANG) == kids[i].pid) {
            kids[i].pid = 0;
            over(&kids[i]);
        }
    }
}

int main(void)
{
    static stage_config_t config;
    stage_hello_t hello = {.magic = STAGE_MAGIC, .ok = 1, .landlock_abi = 7};
    struct pollfd fds[1 + KIDS];
    int nfds;

    if (sys_recv_fds(SB_STAGE_FD, &config, sizeof config, NULL, 0, &nfds) != sizeof config ||
        fcntl(SB_STAGE_FD, F_SETFD, FD_CLOEXEC) != 0 ||
        sys_send_fds(SB_STAGE_FD, &hello, sizeof hello, NULL, 0) != 0)
        return 1;
    for (;;) {
        fds[0] = (struct pollfd){.fd = SB_STAGE_FD, .events = POLLIN};
        for (int i = 0; i < KIDS; i++)
            fds[1 + i] = (struct pollfd){
                .fd = kids[i].seq != 0 && kids[i].waits ? kids[i].status : -1, .events = POLLIN};
        if (poll(fds, 1 + KIDS, TICK_MS) < 0)
            return 1;
        for (int i = 0; i < KIDS; i++) {
            if (fds[1 + i].revents != 0)
                on_status(&kids[i]);
        }
        reap();
        if (fds[0].revents != 0)
            on_control();
    }
}
