/*
 * scan_rules.c - what the scan looks for.  One row a rule; tests/unit/test_scan.c has
 * a hit and a near miss for each, and fails for a row that has none.
 *
 * A warning must be something an honest skill has no reason for.  What ordinary
 * programs do (run others, hash, evaluate, read the environment) is no rule at all.
 * Patterns must not nest repetitions: they run over strangers' texts.
 */
#include "scan_internal.h"

#define NOTE    SB_FINDING_NOTE
#define WARNING SB_FINDING_WARNING

#define SHELL      "(?:/(?:usr/)?bin/)?(?:env )?(?:ba|z|da|k|a)?sh\\b"
#define FIX_SECRET "Remove it, revoke it where it was issued, and let the caller pass it in `env`."

const scan_rule_t sb_scan_rules[] = {
    /* ---- texts that talk to the agent behind the user's back ---- */
    {"ignore-instructions", "prompt-injection", WARNING, SCAN_DOC, NULL,
     "ignore,disregard,forget,override", false,
     "\\b(?:ignore|disregard|forget|override)\\b[^.]{0,30}\\b(?:previous|prior|above|earlier|"
     "preceding|system|your|developer)\\b[^.]{0,20}\\b(?:instructions?|prompts?|rules|guidelines|"
     "directives|restrictions)\\b",
     "it asks the agent to set its instructions aside",
     "Say what the skill does; leave the agent's other instructions alone."},
    {"new-identity", "prompt-injection", WARNING, SCAN_DOC, NULL, "you are now,you are no longer",
     false,
     "\\byou are (?:now|no longer)\\b[^.]{0,60}\\b(?:unrestricted|unfiltered|jailbroken|DAN|"
     "developer mode|bound by|restricted)\\b",
     "it tells the agent to be somebody else", "Describe the task instead of a new identity."},
    {"role-marks", "prompt-injection", WARNING, SCAN_DOC, NULL,
     "im_start,im_end,endoftext,[inst],[/inst],<<sys>>,<|system,<|assistant,<|user", false,
     "<\\|(?:im_start|im_end|endoftext|system|assistant|user)\\|>|\\[/?INST\\]|<</?SYS>>",
     "it holds marks that chat models use between speakers",
     "Remove the marks; write them with spaces where they are the subject."},
    {"system-prompt", "prompt-injection", WARNING, SCAN_DOC, NULL,
     "system prompt,hidden instructions,initial instructions", false,
     "\\b(?:print|reveal|output|repeat|send|leak|disclose)\\b[^.]{0,30}\\b(?:your|the) (?:full "
     "|entire |own )?(?:system prompt|hidden instructions|initial instructions)\\b",
     "it asks for the agent's own instructions", "Remove it: no task needs them."},
    {"behind-the-user", "prompt-injection", WARNING, SCAN_DOC, NULL,
     "secretly,silently,covertly,without telling,without informing,without the user", false,
     "(?<!not )(?<!never )(?<!n't )(?:\\bsilently\\b[^.;]{0,25}\\b(?:send|upload|post|forward|"
     "transmit)\\b|\\b(?:secretly|covertly)\\b[^.;]{0,40}\\b(?:send|upload|post|copy|forward|"
     "transmit|install|delete|record)\\b)|\\b(?:send|upload|post|copy|forward|transmit|install|"
     "delete|record)\\b[^.;]{0,80}\\bwithout (?:telling|informing|the (?:user|human)(?:'s)? "
     "(?:knowing|knowledge|consent|noticing))",
     "it asks for something to be done unseen by the user",
     "Let the user know what the skill does."},
    {"hidden-comment", "prompt-injection", NOTE, SCAN_DOC, NULL, "<!--", false,
     "<!--.{0,200}\\b(?:assistant|agent|model|claude|gpt|llm)\\b.{0,80}\\b(?:must|should|ignore|"
     "execute|run|send|always|never)\\b",
     "a comment, which readers don't see, speaks to the agent",
     "Write instructions where people can read them."},
    {"exfiltration", "prompt-injection", WARNING, SCAN_DOC, NULL,
     "send,upload,exfiltrate,forward,transmit,post", false,
     "\\b(?:send|upload|exfiltrate|forward|transmit|post)\\b[^.]{0,50}\\b(?:conversation|chat "
     "history|api[ _-]?keys?|passwords?|credentials|environment variables|secrets|private keys?|"
     "ssh keys?)\\b[^\\n]{0,60}(?:https?://|\\bwebhook\\b|[\\w.]+@[\\w.]+)",
     "it asks for secrets or the conversation to be sent somewhere",
     "Remove it: a skill has no network, and no need of them."},

    /* ---- secrets that were packed by mistake ---- */
    {"private-key", "secret", WARNING, SCAN_ANY, NULL, "private key", true,
     "-----BEGIN (?:[A-Z]{2,10} )?PRIVATE KEY(?: "
     "BLOCK)?-----(?:\\\\n|[\\s\"',+])*[A-Za-z0-9+/]{40}",
     "a private key", FIX_SECRET},
    {"aws-key", "secret", WARNING, SCAN_ANY, NULL, "akia,asia", true,
     "\\b(?:AKIA|ASIA)(?!IOSFODNN7EXAMPLE)[A-Z2-7]{16}\\b", "an AWS access key id", FIX_SECRET},
    {"github-token", "secret", WARNING, SCAN_ANY, NULL, "ghp_,gho_,ghu_,ghs_,ghr_,github_pat_",
     true, "\\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,90})\\b", "a GitHub token",
     FIX_SECRET},
    {"slack-token", "secret", WARNING, SCAN_ANY, NULL, "xox,hooks.slack.com", true,
     "\\bxox[abeprs]-[0-9]{8,14}-[A-Za-z0-9-]{10,80}|hooks\\.slack\\.com/services/T[A-Z0-9]{8,12}/"
     "B[A-Z0-9]{8,12}/[A-Za-z0-9]{20,30}",
     "a Slack token or webhook", FIX_SECRET},
    {"google-key", "secret", WARNING, SCAN_ANY, NULL, "aiza", true,
     "\\bAIza[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])", "a Google API key", FIX_SECRET},
    {"model-key", "secret", WARNING, SCAN_ANY, NULL, "sk-", true,
     "(?<![A-Za-z0-9_-])sk-(?=[A-Za-z_-]{0,60}[0-9])(?=[a-z0-9_-]{0,60}[A-Z])[A-Za-z0-9_-]{36,200}",
     "an API key of a model provider or of Skillbox", FIX_SECRET},
    {"stripe-key", "secret", WARNING, SCAN_ANY, NULL, "k_live_", true,
     "\\b[sr]k_live_[A-Za-z0-9]{20,110}\\b", "a Stripe key", FIX_SECRET},
    {"web-token", "secret", NOTE, SCAN_ANY, NULL, "eyj", true,
     "\\beyJ[A-Za-z0-9_-]{10,600}\\.eyJ[A-Za-z0-9_-]{10,900}\\.[A-Za-z0-9_-]{20,700}",
     "what looks like a JSON web token", FIX_SECRET},
    {"password", "secret", NOTE, SCAN_CODE, NULL, "password,passwd,secret,api_key,apikey", false,
     "(?:password|passwd|secret|api_?key)\\w{0,10}[\"']?\\s{0,4}[:=]\\s{0,4}[\"'](?!your|example|"
     "changeme|change_me|xxx|test|dummy|placeholder|\\*|<|\\$|\\{|%)[^\"'\\s]{12,80}[\"']",
     "what looks like a password in the code", FIX_SECRET},

    /* ---- code that comes from elsewhere when it is run ---- */
    {"pipe-to-shell", "download", WARNING, SCAN_ANY, NULL, "curl,wget", false,
     "\\b(?:curl|wget)\\b[^|;]{0,300}\\|\\s{0,4}(?:sudo (?:-\\w+ )?)?(?:" SHELL
     "|(?:python[0-9.]{0,4}|node|perl|ruby)\\b(?! (?:-m json|-c|-e)))",
     "it runs what it downloads, unseen", "Pack what is needed; runs have no network."},
    {"shell-of-download", "download", WARNING, SCAN_ANY, NULL, "curl,wget", false,
     "(?:" SHELL "|\\beval|\\bsource|^\\s*\\.)\\s{1,4}(?:-c )?[\"']?(?:<\\(|\\$\\(|`)\\s{0,4}"
     "(?:curl|wget)\\b",
     "it runs what it downloads, unseen", "Pack what is needed; runs have no network."},
    {"powershell-download", "download", WARNING, SCAN_ANY, NULL,
     "downloadstring,invoke-webrequest,iwr", false,
     "\\b(?:iex|invoke-expression)\\b.{0,80}(?:downloadstring|invoke-webrequest|\\biwr\\b)|"
     "(?:downloadstring|invoke-webrequest|\\biwr\\b).{0,200}\\|\\s{0,4}(?:iex|invoke-expression)"
     "\\b",
     "it runs what it downloads, unseen", "Pack what is needed; runs have no network."},
    {"exec-of-download", "download", WARNING, SCAN_CODE, NULL,
     "urlopen,requests.get,httpx.get,urllib.request", false,
     "\\b(?:exec|eval|compile)\\s{0,2}\\(.{0,60}\\b(?:urlopen|requests\\.get|httpx\\.get|"
     "urllib\\.request)\\b",
     "it runs what it downloads, unseen", "Pack what is needed; runs have no network."},
    {"hidden-code", "obfuscation", WARNING, SCAN_ANY, NULL,
     "base64,atob,marshal,zlib,codecs,buffer.from,fromhex", false,
     "\\bbase64\\s{1,4}(?:-d|-D|--decode)\\b[^|;]{0,100}\\|\\s{0,4}(?:sudo )?(?:" SHELL
     "|python[0-9.]{0,4}\\b)|\\b(?:exec|eval)\\s{0,2}\\(\\s{0,4}(?:__import__\\([\"'](?:base64|"
     "zlib|"
     "marshal|codecs)|(?:base64|zlib|marshal|codecs|bytes|bytearray)\\.\\w{4,20}\\(|atob\\(|"
     "Buffer\\.from\\()",
     "it runs code that it decodes first", "Ship code as it is, readable."},

    /* ---- what a sandbox has to stop ---- */
    {"shell-over-network", "reverse-shell", WARNING, SCAN_ANY, NULL, "/dev/tcp,/dev/udp", false,
     "sh\\s{1,4}-i\\b.{0,60}/dev/(?:tcp|udp)/|\\b(?:0?<|exec \\d{1,3}<>)\\s{0,2}/dev/(?:tcp|udp)/"
     "(?!localhost|127\\.).{0,100}(?:\\|\\s{0,2}(?:ba|z|da)?sh\\b|<&|>&)",
     "a shell whose input comes over the network", "Remove it."},
    {"netcat-shell", "reverse-shell", WARNING, SCAN_ANY, NULL, "nc ,ncat,netcat,socat", false,
     "\\b(?:nc|ncat|netcat)\\b[^|;]{0,80}\\s(?:-\\w{0,4}[ec]|--exec|--sh-exec)\\s{1,4}\\S{0,20}"
     "sh\\b|"
     "sh\\s{1,4}-i\\b.{0,40}\\|\\s{0,4}(?:nc|ncat|netcat)\\b|\\bsocat\\b.{0,120}(?:exec|system):"
     "[^ ]{0,20}sh\\b",
     "a shell whose input comes over the network", "Remove it."},
    {"socket-shell", "reverse-shell", WARNING, SCAN_CODE, NULL, "dup2,.stdin", false,
     "\\bos\\.dup2\\(\\s{0,4}\\w{1,30}\\.fileno\\(\\)\\s{0,4},\\s{0,4}[012]\\s{0,4}\\)|"
     "\\b(?:socket|client|sock|conn)\\.pipe\\(\\s{0,4}(?:sh|shell|bash|cmd)\\.stdin\\b",
     "a process whose input is a socket", "Remove it."},
    {"miner", "miner", WARNING, SCAN_ANY, NULL,
     "stratum+,xmrig,minerd,cpuminer,ethminer,nbminer,coinhive,cryptonight,minexmr", false,
     "\\bstratum\\+(?:tcp|ssl)://|\\b(?:xmrig|minerd|cpuminer|ethminer|nbminer|coinhive|"
     "cryptonight|minexmr)\\b",
     "it names a program or pool that mines coins", "Remove it."},
    {"metadata-service", "credentials", WARNING, SCAN_CODE, NULL,
     "169.254.169.254,metadata.google.internal", false,
     "\\b169\\.254\\.169\\.254\\b|\\bmetadata\\.google\\.internal\\b",
     "it asks a cloud's metadata service, which gives out credentials",
     "Let the caller pass what is needed."},
    {"credential-files", "credentials", NOTE, SCAN_CODE, NULL,
     ".aws/credentials,.ssh/id_,.netrc,/etc/shadow,.kube/config,.docker/config.json,.pypirc", false,
     "\\.aws/credentials|\\.ssh/id_(?:rsa|dsa|ecdsa|ed25519)|/\\.netrc\\b|/etc/shadow\\b|"
     "\\.kube/config\\b|\\.docker/config\\.json|/\\.pypirc\\b",
     "it names a file that people keep credentials in",
     "Nothing of the host is there in a run; let the caller pass what is needed."},
    {"authorized-keys", "persistence", WARNING, SCAN_CODE, NULL, "authorized_keys", false,
     ">>?\\s{0,4}\\S{0,80}\\.ssh/authorized_keys|\\btee\\b.{0,40}\\.ssh/authorized_keys",
     "it adds a key that may log in", "Remove it."},
    {"wipe", "destructive", WARNING, SCAN_CODE, NULL, "rm ", false,
     "\\brm\\s{1,4}(?:-[\\w-]{1,20}\\s{1,4}){0,3}-[a-z]{0,4}r[a-z]{0,4}\\s{1,4}(?:-[\\w-]{1,20}"
     "\\s{1,4}){0,2}(?:/|~|\\$HOME|/\\*|\"\\$HOME\")(?=/?\\*?(?:\\s|;|&|$))",
     "it deletes everything", "Name the folder that is meant."},
    {"fork-bomb", "destructive", WARNING, SCAN_ANY, NULL, ":(){,:() {", false,
     ":\\(\\)\\s{0,2}\\{\\s{0,2}:\\s{0,2}\\|\\s{0,2}:\\s{0,2}&\\s{0,2}\\}\\s{0,2};\\s{0,2}:",
     "a fork bomb", "Remove it."},

    /* ---- what runs when somebody installs the package's parts ---- */
    {"npm-hook", "install-hook", WARNING, SCAN_CODE, "package.json", "install", false,
     "\"(?:pre|post)?install\"\\s{0,4}:\\s{0,4}\"", "npm runs this when it installs the package",
     "Remove the hook; a skill is not installed."},
    {"setup-hook", "install-hook", WARNING, SCAN_CODE, "setup.py",
     "cmdclass,os.system,subprocess,urlopen", false,
     "\\bcmdclass\\s{0,4}=|\\b(?:os\\.system|subprocess\\.\\w{2,12}|urlopen)\\s{0,2}\\(",
     "setup.py does more than describe the package when it is installed",
     "Remove setup.py; a skill is not installed."},
    {"startup-hook", "install-hook", WARNING, SCAN_CODE, "*.pth|sitecustomize.py|usercustomize.py",
     "import,exec,open", false, "^\\s{0,8}(?:import|from|exec|with|open)\\b",
     "Python runs this whenever it starts", "Put the code into the script that needs it."},
    {"other-index", "install-hook", NOTE, SCAN_ANY, "requirements*.txt|*.md|*.sh|pip.conf|.npmrc",
     "index-url,registry=,registry ", false,
     "--(?:extra-)?index-url[= ]|\\bregistry\\s{0,2}=\\s{0,2}https?://(?!registry\\.npmjs\\.org)|"
     "--registry[= ]https?://(?!registry\\.npmjs\\.org)",
     "packages come from another index than usual", "Say why in SKILL.md."},
};

const size_t sb_scan_rules_count = sizeof(sb_scan_rules) / sizeof(sb_scan_rules[0]);
