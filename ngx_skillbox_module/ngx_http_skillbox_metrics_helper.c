
/*
 * The helper's figures in /metrics, from its status: what it has under way, and
 * how runs got their interpreters (zygotes, processes started ahead, or neither).
 */


#include "ngx_http_skillbox_zone.h"


typedef struct {
    const char                   *name;        /* in the helper's status */
    const char                   *metric;
    const char                   *type;
    const char                   *help;
} ngx_http_skillbox_figure_t;


/* a counter or gauge of each runtime whose interpreters are started ahead */

typedef struct {
    const char                   *name;        /* in an element of the status */
    const char                   *label;       /* beside runtime, or NULL */
} ngx_http_skillbox_start_t;


static const ngx_http_skillbox_figure_t  ngx_http_skillbox_figures[] = {
    { "running", "skillbox_helper_running_executions", "gauge",
      "Runs that the helper has under way." },
    { "queued", "skillbox_helper_queued_executions", "gauge",
      "Runs that wait in the helper." },
    { "concurrency", "skillbox_helper_concurrency", "gauge",
      "Runs the helper has under way at most." },
    { "queue", "skillbox_helper_queue_size", "gauge",
      "Runs that may wait in the helper." },
    { "tenants", "skillbox_helper_tenants", "gauge",
      "Tenants with runs that wait or are under way in the helper." },
    { "intakes", "skillbox_helper_intakes", "gauge",
      "Packages that the helper is looking at." },
    { "runs_total", "skillbox_helper_runs_total", "counter",
      "Runs the helper has started." },
    { "intakes_total", "skillbox_helper_intakes_total", "counter",
      "Packages the helper has looked at." },
    { NULL, NULL, NULL, NULL }
};

static const ngx_http_skillbox_start_t  ngx_http_skillbox_starts[] = {
    { "ready_runs", "ready" },
    { "forked_runs", "forked" },
    { "plain_runs", "plain" },
    { "executed_runs", "executed" },
    { NULL, NULL }
};

static const char  *ngx_http_skillbox_ahead[] = { "zygotes", "prestarted" };


static void ngx_http_skillbox_metrics_interpreters(sb_buf_t *b, json_t *root);
static void ngx_http_skillbox_metrics_of_each(sb_buf_t *b, json_t *root,
    const char *metric, const char *name, const char *start);


void
ngx_http_skillbox_metrics_helper(sb_buf_t *b, ngx_http_skillbox_ready_t *ready)
{
    json_t                            *root, *value;
    ngx_uint_t                         ok;
    ngx_str_t                          text;
    const char                        *status;
    const ngx_http_skillbox_figure_t  *f;

    ok = ngx_http_skillbox_helper_said(ready, &text);

    ngx_http_skillbox_family(b, "skillbox_helper_up", "gauge",
                             "1 when the helper answers and can run skills.");
    sb_buf_fmt(b, "skillbox_helper_up %d\n", ok != 0);

    root = json_loadb((char *) text.data, text.len, 0, NULL);

    if (root == NULL) {
        return;
    }

    status = json_string_value(json_object_get(root, "status"));

    ngx_http_skillbox_family(b, "skillbox_helper_degraded", "gauge",
                             "1 when sandboxes there are weaker than they "
                             "could be, as configured.");
    sb_buf_fmt(b, "skillbox_helper_degraded %d\n",
               status && ngx_strcmp(status, "degraded") == 0);

    for (f = ngx_http_skillbox_figures; f->name; f++) {
        value = json_object_get(root, f->name);

        if (json_is_integer(value)) {
            ngx_http_skillbox_family(b, f->metric, f->type, f->help);
            sb_buf_fmt(b, "%s %lld\n", f->metric,
                       (long long) json_integer_value(value));
        }
    }

    value = json_object_get(root, "uptime_ms");

    if (json_is_integer(value)) {
        ngx_http_skillbox_family(b, "skillbox_helper_uptime_seconds", "gauge",
                                 "Time since the helper was started.");
        sb_buf_fmt(b, "skillbox_helper_uptime_seconds %.3f\n",
                   json_integer_value(value) / 1000.0);
    }

    ngx_http_skillbox_metrics_interpreters(b, root);

    json_decref(root);
}


static void
ngx_http_skillbox_metrics_interpreters(sb_buf_t *b, json_t *root)
{
    const ngx_http_skillbox_start_t  *s;

    ngx_http_skillbox_family(b, "skillbox_helper_interpreter_up", "gauge",
                             "1 when interpreters of the runtime are started "
                             "ahead, 0 when runs have to start their own.");
    ngx_http_skillbox_metrics_of_each(b, root,
                                      "skillbox_helper_interpreter_up",
                                      "status", NULL);

    ngx_http_skillbox_family(b, "skillbox_helper_interpreters_waiting",
                             "gauge",
                             "Started interpreters that wait for a run.");
    ngx_http_skillbox_metrics_of_each(b, root,
                                      "skillbox_helper_interpreters_waiting",
                                      "waiting", NULL);

    ngx_http_skillbox_family(b, "skillbox_helper_starts_total", "counter",
                             "Runs by how they got their interpreter: one "
                             "that was ready, one forked for them, one of "
                             "their own; executed are those of the first two "
                             "that needed their own after all.");

    for (s = ngx_http_skillbox_starts; s->name; s++) {
        ngx_http_skillbox_metrics_of_each(b, root,
                                          "skillbox_helper_starts_total",
                                          s->name, s->label);
    }
}


static void
ngx_http_skillbox_metrics_of_each(sb_buf_t *b, json_t *root,
    const char *metric, const char *name, const char *start)
{
    size_t       i;
    json_t      *element, *value;
    long long    number;
    ngx_uint_t   k;
    const char  *runtime, *status;

    for (k = 0; k < 2; k++) {

        json_array_foreach(json_object_get(root, ngx_http_skillbox_ahead[k]),
                           i, element)
        {
            runtime = json_string_value(json_object_get(element, "runtime"));
            value = json_object_get(element, name);
            status = json_string_value(value);

            if (runtime == NULL || runtime[strcspn(runtime, "\"\\\n")] != '\0'
                || (status == NULL && !json_is_integer(value)))
            {
                continue;
            }

            number = status ? ngx_strcmp(status, "ok") == 0
                            : json_integer_value(value);

            sb_buf_fmt(b, "%s{runtime=\"%s\"", metric, runtime);

            if (start) {
                sb_buf_fmt(b, ",start=\"%s\"", start);
            }

            sb_buf_fmt(b, "} %lld\n", number);
        }
    }
}
