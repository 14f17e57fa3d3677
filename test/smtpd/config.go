package smtpd

import (
	"encoding/base64"
	"fmt"
	"strings"
	"text/template"
	"time"
)

// configTemplate is Exim's configuration, as described in its specification
// (https://www.exim.org/docs.html). It never looks anything up in the DNS, and
// has no notifier socket, whose path could be too long for one.
//
// A message is acknowledged, then written at once to a file named after its
// time of arrival, in one delivery for all its recipients. The variable that
// carries that time is set before any delay. User name and password are
// compared in base64 form, which needs no quoting.
var configTemplate = template.Must(template.New("exim.conf").Parse(`
primary_hostname = localhost
spool_directory = {{.Dir}}/spool
log_selector = +millisec
log_file_path = {{.Dir}}/log/%s.log
notifier_socket =
keep_environment = NSS_WRAPPER_PASSWD : NSS_WRAPPER_GROUP
deliver_drop_privilege
helo_lookup_domains =
smtp_enforce_sync = false
smtp_banner = localhost ESMTP
smtp_accept_max = 500
smtp_accept_queue_per_connection = 0
return_path_remove = false
envelope_to_remove = false
delivery_date_remove = false
tls_certificate = {{.Dir}}/certificate.pem
tls_privatekey = {{.Dir}}/key.pem
tls_advertise_hosts = {{if .TLS}}*{{end}}
{{- if eq .TLS "implicit"}}
tls_on_connect_ports = {{.Port}}
{{- end}}
acl_smtp_connect = connect
acl_smtp_rcpt = recipient
acl_smtp_data = data

begin acl
connect:
  accept
    hosts = {{.Probe}}
  accept
{{- with .GreetDelay}}
    delay = {{.}}s
{{- end}}

recipient:
{{- if .User}}
  deny
    message = 530 authentication required
    !authenticated = *
{{- end}}
{{- with .RefuseRecipients}}
  {{.Verb}}
    message = {{.Code}} no mail for this recipient
{{- end}}
  accept

data:
  warn
    set acl_m_arrival = $tod_epoch_l
{{- with .DataDelay}}
    delay = {{.}}s
{{- end}}
{{- with .RefuseData}}
  {{.Verb}}
    message = {{.Code}} not this message
{{- end}}
  accept

begin routers
everybody:
  driver = accept
  transport = folder

begin transports
folder:
  driver = appendfile
  directory = {{.Dir}}/mail
  directory_file = ${acl_m_arrival}-$message_exim_id
  batch_max = 10000
  use_crlf
  envelope_to_add
  return_path_add

begin authenticators
{{- if .User}}
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{ {eq{${base64:$auth2}}{ {{- .User -}} }} {eq{${base64:$auth3}}{ {{- .Password -}} }} }}
  server_set_id = user
  server_advertise_condition = {{.OfferAuth}}

login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = <| Username: | Password:
  server_condition = ${if and{ {eq{${base64:$auth1}}{ {{- .User -}} }} {eq{${base64:$auth2}}{ {{- .Password -}} }} }}
  server_set_id = user
  server_advertise_condition = {{.OfferAuth}}
{{- end}}
`[1:]))

// configuration returns Exim's configuration for the options.
func configuration(o Options, dir string, port int) (string, error) {
	values := map[string]any{"Dir": dir, "Port": port, "TLS": o.TLS, "Probe": probeIP}
	switch o.TLS {
	case "", "starttls", "implicit":
	default:
		return "", fmt.Errorf(`option TLS is %q, want "", "starttls" or "implicit"`, o.TLS)
	}
	if o.User != "" {
		values["User"] = base64.StdEncoding.EncodeToString([]byte(o.User))
		values["Password"] = base64.StdEncoding.EncodeToString([]byte(o.Password))
		values["OfferAuth"] = "${if def:tls_in_cipher}"
		if o.PlainAuth {
			values["OfferAuth"] = "true"
		}
	}
	for name, delay := range map[string]time.Duration{"GreetDelay": o.GreetDelay, "DataDelay": o.DataDelay} {
		if delay < 0 || delay%time.Second != 0 {
			return "", fmt.Errorf("option %s is %v, want whole seconds", name, delay)
		}
		values[name] = int(delay / time.Second)
	}
	for name, code := range map[string]int{"RefuseRecipients": o.RefuseRecipients, "RefuseData": o.RefuseData} {
		switch {
		case code == 0:
		case code >= 400 && code < 500:
			values[name] = refusal{"defer", code}
		case code >= 500 && code < 600:
			values[name] = refusal{"deny", code}
		default:
			return "", fmt.Errorf("option %s is %d, want 0 or 400 to 599", name, code)
		}
	}
	var config strings.Builder
	err := configTemplate.Execute(&config, values)
	return config.String(), err
}

// refusal is an answer that refuses, and the statement of Exim's access
// control lists that gives it.
type refusal struct {
	Verb string
	Code int
}
