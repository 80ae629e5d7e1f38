/*
 * protocol.h - the words spoken between gateway (module) and helper.
 *
 * The carrier is FastCGI 1.0, responder role, request id 1, one request per
 * connection, closing the connection = abort.  PARAMS carry small facts under
 * the names below, STDIN the bulk.  The answer is a CGI header block and a body
 * on STDOUT.  STDERR carries the script's log: stdout and stderr as they come,
 * raw bytes; past SB_LOG_MAX / 2 the middle is left out (a line says how much)
 * and the last part follows at the end, so all STDERR content together is the
 * log as it is kept.  An empty STDERR record is a heartbeat (at least every
 * SB_HEARTBEAT_MS while a run is queued or running) and means nothing else.  END_REQUEST's
 * appStatus is the script's exit code (128 + signal when it was killed), 0 for other operations.
 *
 * Operations (SB_P_OP)
 *   run     STDIN = job JSON (SB_P_JOB_LENGTH bytes) + the input JSON + the contents of input files
 *           (SB_P_FILES_LENGTH bytes).
 *           The job JSON is an object with optional members
 *             "args": [string, ...], "env": {name: string}, "stdin": string,
 *             "files": {name: base64}, "input_files": [{"path": string, "size": number}, ...]: in
 *             the order of their contents
 *           It is parsed inside the sandbox, by the process that becomes the script.
 *           200: SB_H_* headers and the result: one JSON object, fields as in the
 *           contract's 2.1, without execution_id, files_url and logs, first field "status".
 *   submit  as run, with SB_P_CREATED; the run goes on without the connection.  202 {"status":
 *           "queued"} once it is on the helper's disk: from then on the helper owes the gateway a
 *           completion (below), also after a crash.  Idempotent by execution id: one that the
 *           helper knows is answered 202 and not run again.
 *   cancel  no STDIN; SB_P_TENANT, SB_P_EXECUTION.  202 {"status":"cancelled"}: its result will
 *           say so, unless it ends by itself first; {"status":"ended"}: it has, and the result is
 *           on its way.  404 SB_SLUG_UNKNOWN_EXECUTION.
 *   attach  no STDIN; SB_P_TENANT, SB_P_EXECUTION, SB_P_OFFSET (bytes of the log to leave out),
 *           SB_P_FOLLOW (1: until the run's end; 0: what is there).  200: STDERR is the log from
 *           the offset on, exactly the bytes that will be stored; STDOUT is a line of JSON for
 *           each state the run enters, {"status":"queued"|"running"}, and at last, the log being
 *           complete, {"status":"ended"}.  404 SB_SLUG_UNKNOWN_EXECUTION.
 *   known   no STDIN; SB_P_EXECUTIONS.  200: {"unknown":[id,...]}, those of them that the helper
 *           neither waits for, runs nor has a result of.
 *   intake  STDIN = the upload's body as it came, CONTENT_TYPE its media type
 *           (multipart is taken apart by the intake child).
 *           200: {"digest":hex64,"manifest":{...},"scripts":[{"path","lang"}],
 *                 "files":[{"path","size_bytes"}],"size_bytes":n,"findings":[...],
 *                 "security"?:[...]}: what the scan found (scan.h); with SB_P_SCAN "block" 422
 *                 security_scan_failed instead when that is more than notes
 *           manifest: see sb_manifest_to_json() in manifest.h.
 *           With SB_P_CHECK "1" the package is only examined: the same answer, nothing is kept.
 *   files   no STDIN.  SB_P_DIGEST, and SB_P_TARGET: one path, or "" for all.
 *           200: [{"path","content","size_bytes","encoding"?:"base64","link"?:target,
 *           "truncated"?:true},...] sorted by path.  Content that is not UTF-8 text is base64;
 *           a file above SB_FILES_FILE_MAX, or one that would take the answer above
 *           SB_FILES_MAX, comes without its content and "truncated".  404 not_found:
 *           the package has no such path.
 *   artifact no STDIN.  SB_P_EXECUTION, SB_P_TARGET: a path in the execution's archive, SB_P_INDEX:
 * its place in files_list.  200: {"size_bytes":n}; the file lies at SB_ARTIFACT_FILE_FMT from now
 * on, with the archive's time, until somebody removes it.  404 not_found. status  no STDIN.  200:
 * {"status":"ok"|"degraded"|"unavailable","reason"?, "tier","runtimes":{lang:"ok"|reason},
 *           "images":[{"name","lang","status":"ok"|reason}],"running","queued",...}
 *
 * Completion: the helper's HTTP/1.1 POST to the gateway's internal listener (helper.yaml
 * `completion`, nginx `skillbox_internal`), SB_COMPLETION_PATH and the execution's id.  Facts are
 * in the SB_H_* headers; the body is the result, one JSON object as `run` answers it, then the log,
 * SB_H_LOG_LENGTH bytes.  2xx: it is committed, the helper may forget it; anything else, or no
 * answer: it comes again.  Idempotent by execution id.  A run that lasts is announced by one with
 * SB_H_STATUS "running" and no body; that comes once and may be lost.
 *
 * Every refusal is an ordinary answer with `Status: 4xx|5xx` and
 * {"error":slug,"message":text,"details"?:[...]}.  Slugs are the API's, and two
 * of our own: SB_SLUG_UNKNOWN_PACKAGE (404), the helper has no package of that
 * digest, the gateway sends it by `intake` and asks again, once; and
 * SB_SLUG_UNKNOWN_EXECUTION (404), another helper may have it.
 */
#ifndef SB_PROTOCOL_H
#define SB_PROTOCOL_H

#define SB_P_OP           "SKILLBOX_OP"
#define SB_P_REQUEST_ID   "SKILLBOX_REQUEST_ID" /* for the helper's log lines */
#define SB_P_TENANT       "SKILLBOX_TENANT"
#define SB_P_EXECUTION    "SKILLBOX_EXECUTION"  /* UUID text, names the artifact archive */
#define SB_P_EXECUTIONS   "SKILLBOX_EXECUTIONS" /* known: up to SB_KNOWN_MAX, commas between */
#define SB_P_SKILL        "SKILLBOX_SKILL"      /* name and version: result and log lines */
#define SB_P_VERSION      "SKILLBOX_VERSION"
#define SB_P_DIGEST       "SKILLBOX_DIGEST" /* 64 lower-case hex digits */
#define SB_P_LANG         "SKILLBOX_LANG"   /* python | node | bash */
#define SB_P_IMAGE        "SKILLBOX_IMAGE" /* the manifest's runtime key, "" = the language's own */
#define SB_P_MODE         "SKILLBOX_MODE"  /* entrypoint | script | module */
#define SB_P_TARGET       "SKILLBOX_TARGET" /* path in the package, or Python module name */
#define SB_P_TIMEOUT_MS   "SKILLBOX_TIMEOUT_MS"
#define SB_P_MEMORY       "SKILLBOX_MEMORY"    /* bytes */
#define SB_P_CPU_MILLI    "SKILLBOX_CPU_MILLI" /* thousandths of a core */
#define SB_P_JOB_LENGTH   "SKILLBOX_JOB_LENGTH"
#define SB_P_FILES_LENGTH "SKILLBOX_FILES_LENGTH" /* absent: 0 */
#define SB_P_INPUT_FILES                                                                           \
    "SKILLBOX_INPUT_FILES"                   /* submit: their ids for the record, commas between */
#define SB_P_CREATED      "SKILLBOX_CREATED" /* submit: when it was asked for, Unix ms */
#define SB_P_OFFSET       "SKILLBOX_OFFSET"  /* attach */
#define SB_P_FOLLOW       "SKILLBOX_FOLLOW"  /* attach: 0 | 1 */
#define SB_P_INDEX        "SKILLBOX_INDEX"   /* artifact */
#define SB_P_CONTENT_TYPE "CONTENT_TYPE"
#define SB_P_CHECK        "SKILLBOX_CHECK" /* 1: examine the package, keep nothing */
#define SB_P_SCAN         "SKILLBOX_SCAN"  /* intake: off (or absent) | warn | block */
/* What the tenant may have, absent: any number.  429 rate_limited when its runs that wait are so
 * many already; those above its running ones wait. */
#define SB_P_TENANT_RUNNING "SKILLBOX_TENANT_RUNNING"
#define SB_P_TENANT_WAITING "SKILLBOX_TENANT_WAITING"
/* run, submit: bytes of all its files together; those above are left out.  Absent: any that the
 * helper packs. */
#define SB_P_ARTIFACT_BYTES "SKILLBOX_ARTIFACT_BYTES"

#define SB_OP_RUN      "run"
#define SB_OP_INTAKE   "intake"
#define SB_OP_STATUS   "status"
#define SB_OP_SUBMIT   "submit"
#define SB_OP_CANCEL   "cancel"
#define SB_OP_ATTACH   "attach"
#define SB_OP_FILES    "files"
#define SB_OP_KNOWN    "known"
#define SB_OP_ARTIFACT "artifact"

#define SB_KNOWN_MAX 200

/* answer headers of `run` */
#define SB_H_STATUS     "X-Skillbox-Status"     /* success | failed | timeout | cancelled */
#define SB_H_EXIT_CODE  "X-Skillbox-Exit-Code"  /* absent when a signal ended the script */
#define SB_H_FILES      "X-Skillbox-Files"      /* files in the archive; 0 = there is no archive */
#define SB_H_QUEUE_USEC "X-Skillbox-Queue-Usec" /* time spent queued */
#define SB_H_RUN_USEC   "X-Skillbox-Run-Usec"   /* sandbox set-up to the script's end */

/* of which set-up, until the script could start; and from its end to the result */
#define SB_H_START_USEC   "X-Skillbox-Start-Usec"
#define SB_H_COLLECT_USEC "X-Skillbox-Collect-Usec"

/* headers of a completion, beside STATUS, FILES, QUEUE_USEC and RUN_USEC */
#define SB_H_TENANT      "X-Skillbox-Tenant"
#define SB_H_SKILL       "X-Skillbox-Skill"
#define SB_H_VERSION     "X-Skillbox-Version"
#define SB_H_CREATED     "X-Skillbox-Created"  /* Unix ms, as SB_P_CREATED */
#define SB_H_FINISHED    "X-Skillbox-Finished" /* Unix ms */
#define SB_H_LOG_LENGTH  "X-Skillbox-Log-Length"
#define SB_H_INPUT_FILES "X-Skillbox-Input-Files" /* as SB_P_INPUT_FILES; absent: none */
#define SB_H_DIGEST      "X-Skillbox-Digest"      /* as SB_P_DIGEST; absent: not known any more */

#define SB_COMPLETION_PATH "/completions/" /* behind the location's name; the id follows */

#define SB_SLUG_UNKNOWN_PACKAGE   "unknown_package"
#define SB_SLUG_UNKNOWN_EXECUTION "unknown_execution"

/* bytes of one file's content, and of a whole answer, that `files` gives */
#define SB_FILES_FILE_MAX (8 * SB_MIB)
#define SB_FILES_MAX      (16 * SB_MIB)

#define SB_HEARTBEAT_MS   10000
#define SB_PARAMS_MAX     65536 /* bytes of all PARAMS together */
#define SB_CGI_HEADER_MAX 4096

/*
 * Where an execution's artifact archive lies below the artifacts folder, which
 * gateway and helper share: the last two hex digits of the id, then the id.
 */
#define SB_ARTIFACT_PATH_FMT "%.2s/%s.tar.gz" /* (id + 34, id) */
#define SB_ARTIFACT_PATH_LEN (3 + 36 + 7)

/* A folder beside it for files taken out of it, which may be removed at any time; and one of them.
 */
#define SB_ARTIFACT_DIR_FMT  "%.2s/%s.d"    /* (id + 34, id) */
#define SB_ARTIFACT_FILE_FMT "%.2s/%s.d/%u" /* (id + 34, id, index) */

#endif
