package config

import "time"

// A group is a heading under which options stand together.
type group string

const (
	groupServer     group = "Server"
	groupSecrets    group = "Secrets"
	groupUsers      group = "Users and limits"
	groupCapacity   group = "Capacity"
	groupMail       group = "Mail"
	groupEvents     group = "Events"
	groupTLS        group = "TLS"
	groupLogging    group = "Logging"
	groupOperations group = "Operations"
	groupSources    group = "Set-up and sources"
)

// An option is the one declaration of a setting: the flags and their help,
// the names in the environment and in envfiles, the reference and the written
// envfile come from it.
type option struct {
	name  string
	group group
	kind  kind
	// env are the names in the environment; the first that isn't blank
	// counts. An option without any comes from the command line alone.
	env []string
	// outdated is a name in the environment that still counts, with a
	// notice.
	outdated string
	// def is the value when nothing else gives one.
	def string
	// required options have no default.
	required bool
	// secret values are never shown.
	secret bool
	// fromFile marks a value that may be the path of a file that holds it.
	fromFile bool
	// help is one sentence.
	help string
}

// Placeholders that a path may contain.
const (
	baseDir = "[[basedir]]"
	homeDir = "[[homedir]]"
)

// loginName is a placeholder that emailuser may contain.
const loginName = "[[login]]"

// options returns every option, in the order in which the Python server's
// set-up writes them.
func options() []option {
	return []option{
		{
			name: "allowedhosts", group: groupServer, env: env("ALLOWEDHOSTS"), def: "localhost;127.0.0.1",
			kind: hosts(),
			help: "The names under which clients may reach the server, as their Host header gives them.",
		},
		{
			name: "authdb", group: groupServer, env: env("AUTHDB"), required: true, secret: true,
			kind: expanded(text("a database URL", func(c *Config) *string { return &c.AuthDB })),
			help: "Where users and sessions are kept: sqlite:///relative.sqlite, sqlite:////absolute/path.sqlite, postgresql://user:password@host/database, mysql://… or mariadb://….",
		},
		{
			name: "basedir", group: groupServer, env: env("BASEDIR"),
			kind: path("a directory", func(c *Config) *string { return &c.BaseDir }),
			help: "The directory in which set-up writes its files, and what [[basedir]] in other paths stands for; without it, the working directory.",
		},
		{
			name: "cachedir", group: groupServer, env: env("CACHEDIR"), def: baseDir + "/.authnzerver-cache",
			kind: orNone(path("a directory", func(c *Config) *string { return &c.CacheDir })),
			help: "The directory for what a restart must not forget, such as spent limits and seen messages.",
		},
		{
			name: "debugmode", group: groupServer, env: env("DEBUGMODE"), def: "0",
			kind: boolean(func(c *Config) *bool { return &c.Debug }),
			help: "Whether the server answers /echo and logs in detail.",
		},
		{
			name: "listen", group: groupServer, env: env("LISTEN"), def: "127.0.0.1",
			kind: address(),
			help: "The address on which the server listens.",
		},
		{
			name: "permissions", group: groupServer, env: env("PERMISSIONS"),
			kind: path("a file", func(c *Config) *string { return &c.Permissions }),
			help: "The JSON file of roles, rights and limits; without it the built-in policy holds.",
		},
		{
			name: "port", group: groupServer, env: append(env("PORT"), "PORT"), def: "13431",
			kind: integer(0, 65535, func(c *Config) *int { return &c.Port }),
			help: "The TCP port on which the server listens; 0 lets the system choose one.",
		},

		{
			name: "secret", group: groupSecrets, env: env("SECRET"), outdated: "AUTHNZERVER_SECRETKEY", required: true, secret: true, fromFile: true,
			kind: secret(),
			help: "The key that clients share with the server, in Fernet's form. There may be several, separated by commas or, in a file, by lines: the first one seals, all open.",
		},
		{
			name: "piisalt", group: groupSecrets, env: env("PIISALT"), required: true, secret: true, fromFile: true,
			kind: verbatim("text, or the path of a file that holds it", func(c *Config) *string { return &c.PIISalt }),
			help: "The key of the hashes that stand for personal data in the log.",
		},
		{
			name: "messagettl", group: groupSecrets, env: env("MESSAGETTL"), def: "300",
			kind: span(0, 86400, time.Second, "seconds", func(c *Config) *time.Duration { return &c.MessageTTL }),
			help: "How old a request may be; inside that time none is accepted twice. 0 turns both checks off.",
		},

		{
			name: "sessionidle", group: groupUsers, env: env("SESSIONIDLE"), def: "0",
			kind: span(0, 525_600, time.Minute, "minutes", func(c *Config) *time.Duration { return &c.SessionIdle }),
			help: "After how long a session ends that nobody uses, if it does not expire before. 0 for never.",
		},
		{
			name: "sessionexpiry", group: groupUsers, env: env("SESSIONEXPIRY"), def: "30",
			kind: span(0, 36500, 24*time.Hour, "days", func(c *Config) *time.Duration { return &c.SessionExpiry }),
			help: "How long an expired session is kept before it is deleted.",
		},
		{
			name: "userlocktries", group: groupUsers, env: env("USERLOCKTRIES"), def: "10",
			kind: integer(1, 100_000, func(c *Config) *int { return &c.UserLockTries }),
			help: "How many wrong passwords in a row an account takes before it is locked.",
		},
		{
			name: "userlocktime", group: groupUsers, env: env("USERLOCKTIME"), def: "3600",
			kind: span(1, 31_536_000, time.Second, "seconds", func(c *Config) *time.Duration { return &c.UserLockTime }),
			help: "How long such a lock lasts.",
		},
		{
			name: "maxloginwait", group: groupUsers, env: env("MAXLOGINWAIT"), def: "40",
			kind: span(0, 300, time.Second, "seconds", func(c *Config) *time.Duration { return &c.MaxLoginWait }),
			help: "The longest wait before the answer to a wrong password.",
		},
		{
			name: "passpolicy", group: groupUsers, env: env("PASSPOLICY"),
			def:  "min_pass_length:12; max_unsafe_similarity:50; max_char_frequency:0.3; min_pwned_matches:25",
			kind: text("four name:number pairs, separated by semicolons", func(c *Config) *string { return &c.PassPolicy }),
			help: "What a new password must satisfy.",
		},
		{
			name: "fqdn", group: groupUsers, env: env("FQDN"),
			kind: text("a host name", func(c *Config) *string { return &c.FQDN }),
			help: "The server's full host name, which passwords must not resemble; without it, the machine's own name.",
		},
		{
			name: "pwnedurl", group: groupUsers, env: env("PWNEDURL"), def: "https://api.pwnedpasswords.com",
			kind: orNone(service(func(c *Config) *string { return &c.PwnedURL })),
			help: "The service that is asked, by the first five digits of its SHA-1 digest, whether a new password is known to have leaked.",
		},
		{
			name: "apikeyprefix", group: groupUsers, env: env("APIKEYPREFIX"), def: "authnz",
			kind: text("2 to 16 lower-case letters and digits, the first a letter", func(c *Config) *string { return &c.APIKeyPrefix }),
			help: "How new API keys, refresh tokens and e-mail tokens begin, so that people and secret scanners know them. Older ones stay valid.",
		},
		{
			name: "refreshgrace", group: groupUsers, env: env("REFRESHGRACE"), def: "30",
			kind: span(0, 300, time.Second, "seconds", func(c *Config) *time.Duration { return &c.RefreshGrace }),
			help: "How long a used refresh token of an API key gets the same successor again, for answers that were lost. Used later, it revokes the key.",
		},
		{
			name: "ratelimits", group: groupUsers, env: env("RATELIMITS"), def: defaultRateLimits,
			kind: rateLimits(),
			help: "Calls a minute by group (ipaddr, user, session, apikey, burst) or by request, such as user-login:20.",
		},
		{
			name: "limitstore", group: groupUsers, env: env("LIMITSTORE"), secret: true,
			kind: orNone(text("redis://, rediss://, valkey://, valkeys:// or unix:// with what connecting takes", func(c *Config) *string { return &c.LimitStore })),
			help: "The Redis or Valkey server in which several nodes share what they count and the messages they have seen, such as redis://:password@host:6379/0.",
		},

		{
			name: "workers", group: groupCapacity, env: env("WORKERS"), def: "4",
			kind: integer(1, 1024, func(c *Config) *int { return &c.Workers }),
			help: "How many passwords are hashed at the same time.",
		},
		{
			name: "hashqueue", group: groupCapacity, env: env("HASHQUEUE"), def: "64",
			kind: integer(0, 65536, func(c *Config) *int { return &c.HashQueue }),
			help: "How many password hashes may wait for their turn before more are refused.",
		},
		{
			name: "argon2", group: groupCapacity, env: env("ARGON2"), def: "m=65536,t=3,p=4",
			kind: text("m=KiB,t=passes,p=lanes", func(c *Config) *string { return &c.Argon2 }),
			help: "The cost of a new password hash.",
		},
		{
			name: "shutdowntimeout", group: groupCapacity, env: env("SHUTDOWNTIMEOUT"), def: "5",
			kind: span(0, 600, time.Second, "seconds", func(c *Config) *time.Duration { return &c.ShutdownTimeout }),
			help: "How long a stopping server waits for requests that it has begun.",
		},

		{
			name: "emailserver", group: groupMail, env: env("EMAILSERVER"), def: "localhost",
			kind: orNone(text("a host name or an IP address", func(c *Config) *string { return &c.EmailServer })),
			help: "The mail server that takes what the server sends; with none, no mail is sent.",
		},
		{
			name: "emailport", group: groupMail, env: env("EMAILPORT"), def: "25",
			kind: integer(1, 65535, func(c *Config) *int { return &c.EmailPort }),
			help: "The port of the mail server. On 465, TLS starts at once unless emailtls is off.",
		},
		{
			name: "emailuser", group: groupMail, env: env("EMAILUSER"), def: loginName,
			kind: expanded(text("text", func(c *Config) *string { return &c.EmailUser })),
			help: "The account at the mail server; it is used when there is a password.",
		},
		{
			name: "emailpass", group: groupMail, env: env("EMAILPASS"), secret: true,
			kind: verbatim("text", func(c *Config) *string { return &c.EmailPass }),
			help: "The password of that account.",
		},
		{
			name: "emailsender", group: groupMail, env: env("EMAILSENDER"), def: "Authnzerver <authnzerver@localhost>",
			kind: text("an e-mail address", func(c *Config) *string { return &c.EmailSender }),
			help: "The sender of the server's e-mails.",
		},
		{
			name: "emailtls", group: groupMail, env: env("EMAILTLS"), def: "auto",
			kind: choice(func(c *Config) *string { return &c.EmailTLS }, "auto", "require", "implicit", "insecure", "off"),
			help: "How the way to the mail server is encrypted: auto with STARTTLS when it is offered, require with STARTTLS always, implicit from the first byte, insecure without a check of its certificate, off never.",
		},
		{
			name: "emailpace", group: groupMail, env: env("EMAILPACE"), def: "1000",
			kind: span(0, 3000, time.Millisecond, "milliseconds", func(c *Config) *time.Duration { return &c.EmailPace }),
			help: "Answers about forgotten passwords take a multiple of this time, so that it does not tell who has an account; it should be longer than the mail server takes for a message.",
		},

		{
			name: "eventretention", group: groupEvents, env: env("EVENTRETENTION"), def: "365",
			kind: span(1, 36500, 24*time.Hour, "days", func(c *Config) *time.Duration { return &c.EventRetention }),
			help: "How long entries of the event log are kept.",
		},
		{
			name: "webhookurl", group: groupEvents, env: env("WEBHOOKURL"), secret: true,
			kind: orNone(text("an https URL, or an http URL of this machine", func(c *Config) *string { return &c.WebhookURL })),
			help: "Where each entry of the event log is sent, one after the other, until it is taken.",
		},
		{
			name: "webhooksecret", group: groupEvents, env: env("WEBHOOKSECRET"), secret: true, fromFile: true,
			kind: verbatim("whsec_ and 24 to 64 bytes in base64, or the path of a file that holds it", func(c *Config) *string { return &c.WebhookSecret }),
			help: "The key of the signatures of what is sent there. There may be several, separated by commas: then there is a signature with each.",
		},

		{
			name: "tlscertfile", group: groupTLS, env: env("TLSCERTFILE"),
			kind: path("a file", func(c *Config) *string { return &c.TLSCertFile }),
			help: "The PEM file of the server's certificate chain; with it the server speaks TLS.",
		},
		{
			name: "tlscertkey", group: groupTLS, env: env("TLSCERTKEY"),
			kind: path("a file", func(c *Config) *string { return &c.TLSKeyFile }),
			help: "The PEM file of the certificate's key.",
		},

		{
			name: "logging", group: groupLogging, env: env("LOGGING"), def: "info",
			kind: logLevel(),
			help: "The least grave message that is logged. With debugmode it is debug unless it is given.",
		},
		{
			name: "logformat", group: groupLogging, env: env("LOGFORMAT"), def: "auto",
			kind: choice(func(c *Config) *string { return &c.LogFormat }, "auto", "text", "json"),
			help: "The form of a log line; auto is text on a terminal and JSON elsewhere.",
		},

		{
			name: "logsample", group: groupLogging, env: env("LOGSAMPLE"), def: "100:100",
			kind: sample(),
			help: "How many requests that end alike are logged in a second, and after a colon which ones of those beyond: every hundredth. With none, all.",
		},

		{
			name: "metricslisten", group: groupOperations, env: env("METRICSLISTEN"), def: "none",
			kind: orNone(listener(func(c *Config) *string { return &c.MetricsListen })),
			help: "The address and port on which GET /metrics, /health, /health/live and /health/ready are answered, for whoever can reach it, such as 127.0.0.1:9431.",
		},
		{
			name: "tracesurl", group: groupOperations, env: env("TRACESURL"), def: "none", secret: true,
			kind: orNone(service(func(c *Config) *string { return &c.TracesURL })),
			help: "The collector to which traces are sent, by OTLP over HTTP with JSON, such as http://localhost:4318.",
		},
		{
			name: "tracesample", group: groupOperations, env: env("TRACESAMPLE"), def: "1",
			kind: share(func(c *Config) *float64 { return &c.TraceSample }),
			help: "The share of requests that are traced, from 0 to 1. Frontends that send a traceparent decide for theirs.",
		},

		{
			name: "autosetup", group: groupSources, def: "false",
			kind: boolean(func(c *Config) *bool { return &c.Autosetup }),
			help: "Set a new server up, then exit.",
		},
		{
			name: "envfile", group: groupSources, kind: flagOnly(),
			help: "A file of KEY=VALUE lines that adds to the environment.",
		},
		{
			name: "confvars", group: groupSources, kind: flagOnly(),
			help: "A JSON file that says which values come from other files or from URLs.",
		},

		{name: "log-to-stderr", kind: ignored()},
		{name: "log-file-prefix", kind: ignored()},
		{name: "log-file-max-size", kind: ignored()},
		{name: "log-file-num-backups", kind: ignored()},
		{name: "log-rotate-mode", kind: ignored()},
		{name: "log-rotate-when", kind: ignored()},
		{name: "log-rotate-interval", kind: ignored()},
	}
}

const envPrefix = "AUTHNZERVER_"

// The names of the first superuser. They come from the process environment
// alone, so that no file keeps a password.
const (
	adminEmail    = envPrefix + "ADMIN_EMAIL"
	adminPassword = envPrefix + "ADMIN_PASSWORD"
)

func env(name string) []string { return []string{envPrefix + name} }

// ignored tells whether the option only exists so that it may be given.
func (o *option) ignored() bool { return o.group == "" }

// bootstrap tells whether the option comes from the command line alone, since
// it says where others come from or whether the server runs at all.
func (o *option) bootstrap() bool { return len(o.env) == 0 }

// lookup finds an option by name.
func lookup(name string) (option, bool) {
	for _, o := range options() {
		if o.name == name {
			return o, true
		}
	}
	return option{}, false
}
