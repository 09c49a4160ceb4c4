package entra

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind is what an error means to us.
type Kind int

const (
	Failed        Kind = iota // this sign-in went wrong, another may not
	Declined                  // the person said no
	NotAssigned               // not assigned to the application
	NoRole                    // signed in, without an app role that counts
	Unknown                   // no account of this tenant
	ConsentNeeded             // nobody has approved the application
	Interaction               // the person must sign in again: MFA, Conditional Access, sign-in frequency
	Blocked                   // Conditional Access refuses this sign-in; again is no use
	Revoked                   // the grant is over: expired, revoked, used, account disabled
	UserSwap                  // tokens of another person than expected: a security event
	InvalidToken              // Entra's answer does not verify
	WrongAudience             // the access token is not for our API
	Misconfigured             // app registration and our configuration do not fit
	ClientAuth                // our secret is wrong or expired
	Busy                      // Entra asks for patience
	Unavailable               // Entra does not answer, or not as Entra
)

// kinds has all that a kind means: a name for logs and metrics, whether the same refresh may work later (every other kind
// ends the sign-in), what the client hears (RFC 6749 section 4.1.2.1), and what a person reads. The texts are constant and
// ours: those of Entra name accounts and applications.
var kinds = [...]struct {
	name   string
	retry  bool
	answer string
	text   string
}{
	Failed:        {"failed", false, "server_error", "Sign-in failed. Please try again."},
	Declined:      {"declined", false, "access_denied", "You declined the sign-in at Microsoft."},
	NotAssigned:   {"not_assigned", false, "access_denied", "Your account is not assigned to this application. Ask its administrators to assign you one of its roles, directly and not through a nested group."},
	NoRole:        {"no_role", false, "access_denied", "You are signed in, but your account has no role in this application. Ask its administrators to assign you one, then sign in again."},
	Unknown:       {"unknown_account", false, "access_denied", "Your account is not known in this organisation. Ask its administrators to invite you as a guest, or pick another account."},
	ConsentNeeded: {"consent_needed", false, "access_denied", "An administrator of your organisation must approve this application once before anybody can sign in."},
	Interaction:   {"interaction", false, "access_denied", "Your organisation asks you to sign in again."},
	Blocked:       {"blocked", false, "access_denied", "A rule of your organisation blocks this sign-in, because of the place, the device or the risk. Ask its administrators."},
	Revoked:       {"revoked", false, "access_denied", "Your sign-in at Microsoft is no longer valid. Please sign in again."},
	UserSwap:      {"user_swap", false, "access_denied", "The answer from Microsoft was for another account. Please sign in again."},
	InvalidToken:  {"invalid_token", false, "server_error", "The answer from Microsoft could not be verified. Please try again, and tell the administrators if it stays."},
	WrongAudience: {"wrong_audience", false, "server_error", "Sign-in is misconfigured. Please tell the administrators of this gateway."},
	Misconfigured: {"misconfigured", true, "temporarily_unavailable", "Sign-in is misconfigured. Please tell the administrators of this gateway."},
	ClientAuth:    {"client_auth", true, "temporarily_unavailable", "Sign-in is temporarily unavailable. Please tell the administrators of this gateway."},
	Busy:          {"busy", true, "temporarily_unavailable", "Microsoft is busy. Please try again in a minute."},
	Unavailable:   {"unavailable", true, "temporarily_unavailable", "Microsoft cannot be reached at the moment. Please try again in a minute."},
}

func (k Kind) String() string { return kinds[k].name }

// Error is why a sign-in or a refresh did not work. Its text is for logs: it has no secret, no token, and none of
// Entra's error_description, which names people.
type Error struct {
	Kind     Kind
	OAuth    string // Entra's OAuth error; empty when it was not Entra that said no
	AADSTS   []int  // Entra's numbers
	Suberror string
	Claims   string // what Conditional Access asks for; goes into AuthorizeOptions of the next sign-in
	Hint     string // what an operator should do

	// What Microsoft's support asks for.
	CorrelationID, TraceID, Timestamp string

	RetryAfter time.Duration // zero: not said

	cause error
}

// UserText is what a person may read.
func (e *Error) UserText() string { return kinds[e.Kind].text }

// Temporary reports whether the same refresh may work later: keep the refresh token. Every other error ends the session.
func (e *Error) Temporary() bool { return kinds[e.Kind].retry }

// Answer is the OAuth error code that our own client hears.
func (e *Error) Answer() string { return kinds[e.Kind].answer }

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("entra: " + e.Kind.String())
	if e.OAuth != "" {
		b.WriteString(": " + e.OAuth)
	}
	for _, n := range e.AADSTS {
		fmt.Fprintf(&b, " AADSTS%d", n)
	}
	if e.Hint != "" {
		b.WriteString(": " + e.Hint)
	}
	if e.cause != nil {
		b.WriteString(": " + e.cause.Error())
	}
	if e.CorrelationID != "" {
		fmt.Fprintf(&b, " (correlation id %s, trace id %s, %s)", e.CorrelationID, e.TraceID, e.Timestamp)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.cause }

func failed(format string, args ...any) *Error {
	return &Error{Kind: Failed, Hint: fmt.Sprintf(format, args...)}
}

// known refines Kind by number ("Microsoft Entra authentication & authorization error codes"). Numbers may change, says
// Microsoft: an unknown one falls back to the OAuth error.
var known = map[int]struct {
	kind Kind
	hint string
}{
	16003:   {Unknown, "the account is not in the tenant: invite it as a guest"},
	28002:   {Misconfigured, "the scope is not valid: compare scopes with Expose an API"},
	50011:   {Misconfigured, "the redirect URI is not registered: it must be byte for byte the same, platform Web"},
	50020:   {Unknown, "the account is of another tenant: invite it as a guest"},
	50034:   {Unknown, "the account does not exist in the tenant"},
	50057:   {Revoked, "the account is disabled"},
	50074:   {Interaction, "multi-factor authentication is required"},
	50076:   {Interaction, "multi-factor authentication is required"},
	50079:   {Interaction, "the account must register for multi-factor authentication"},
	50105:   {NotAssigned, "the account is not assigned: nested groups do not count"},
	50131:   {Interaction, "Conditional Access asks for a new sign-in"},
	50173:   {Revoked, "an administrator revoked the sessions, or the password was reset"},
	50194:   {Misconfigured, "a multi-tenant endpoint was used: the issuer must name the tenant's GUID"},
	50196:   {Busy, "the same request came too often: Entra's loop detection"},
	53000:   {Blocked, "Conditional Access: the device is not compliant"},
	53001:   {Blocked, "Conditional Access: the device is not joined"},
	53002:   {Blocked, "Conditional Access: the application is not approved"},
	53003:   {Blocked, "Conditional Access blocks this sign-in: see the sign-in log"},
	54005:   {Revoked, "the authorization code was used before"},
	65001:   {ConsentNeeded, "nobody has consented: grant tenant-wide admin consent"},
	65004:   {Declined, ""},
	70000:   {Revoked, "the grant is not valid"},
	70008:   {Revoked, "the grant has expired"},
	70011:   {Misconfigured, "the scope is not valid: compare scopes with Expose an API"},
	70021:   {ClientAuth, "no federated credential matches: new ones take minutes to arrive"},
	70043:   {Interaction, "Conditional Access: sign-in frequency"},
	90002:   {Misconfigured, "the tenant does not exist: check the issuer"},
	90009:   {Misconfigured, "client and API are the same application: the scope in GUID form was refused, too"},
	90033:   {Busy, ""},
	90055:   {Busy, ""},
	90094:   {ConsentNeeded, "grant tenant-wide admin consent: with Assignment required nobody may consent for themselves"},
	90095:   {ConsentNeeded, "grant tenant-wide admin consent: with Assignment required nobody may consent for themselves"},
	500011:  {Misconfigured, "the API is not in the tenant: check the Application ID URI, and az ad sp create"},
	500112:  {Misconfigured, "the redirect URI changed between sign-in and exchange"},
	650053:  {Misconfigured, "the API has no such scope: compare scopes with Expose an API"},
	700016:  {Misconfigured, "the application is not in the tenant: check client id and issuer"},
	700022:  {Misconfigured, "scopes of several APIs in one request"},
	700027:  {ClientAuth, "the client assertion's signature is not valid"},
	700082:  {Revoked, "the refresh token was not used for 90 days"},
	700084:  {Revoked, "the refresh token has expired"},
	900144:  {Failed, "a parameter is missing in our request"},
	901002:  {Misconfigured, "our request had the parameter resource"},
	7000215: {ClientAuth, "the client secret is wrong: copy its value, not its id"},
	7000218: {ClientAuth, "our request had no client secret"},
	7000222: {ClientAuth, "the client secret has expired: make a new one"},
	9002313: {Failed, "our request was malformed"},
	9010010: {Misconfigured, "our request had the parameter resource"},
}

// errorResponse is RFC 6749 section 5.2 with Entra's additions.
type errorResponse struct {
	Code          string `json:"error"`
	Numbers       []int  `json:"error_codes"`
	Suberror      string `json:"suberror"`
	Claims        string `json:"claims"`
	Timestamp     string `json:"timestamp"`
	TraceID       string `json:"trace_id"`
	CorrelationID string `json:"correlation_id"`
}

func (r errorResponse) toError(status int) *Error {
	e := &Error{
		OAuth: clean(r.Code), Suberror: clean(r.Suberror), AADSTS: r.Numbers[:min(len(r.Numbers), 8)],
		Timestamp: clean(r.Timestamp), TraceID: clean(r.TraceID), CorrelationID: clean(r.CorrelationID),
	}
	if len(r.Claims) <= 4<<10 {
		e.Claims = r.Claims
	}
	e.classify()
	if status == http.StatusTooManyRequests || status >= 500 {
		e.Kind = Busy
	}
	return e
}

// classify sets Kind and Hint from what Entra said.
func (e *Error) classify() {
	switch e.OAuth {
	case "access_denied":
		e.Kind = Declined
	case "consent_required":
		e.Kind = ConsentNeeded
	case "interaction_required", "login_required", "account_selection_required":
		e.Kind = Interaction
	case "invalid_grant":
		e.Kind = Revoked
		if e.Suberror == "consent_required" {
			e.Kind = ConsentNeeded
		}
	case "invalid_client":
		e.Kind = ClientAuth
	case "unauthorized_client", "invalid_scope", "invalid_resource", "invalid_target", "unsupported_grant_type", "unsupported_response_type":
		e.Kind = Misconfigured
	case "temporarily_unavailable", "server_error":
		e.Kind = Busy
	}
	for _, n := range e.AADSTS {
		if k, ok := known[n]; ok {
			e.Kind, e.Hint = k.kind, k.hint
			return
		}
	}
}

func (e *Error) has(number int) bool { return slices.Contains(e.AADSTS, number) }

var aadsts = regexp.MustCompile(`^AADSTS([0-9]{4,9}):`)

// fromCallback reads an error that the browser brought. Anybody can make a browser bring one, so only its form counts:
// numbers, and words of few characters.
func fromCallback(q url.Values) *Error {
	e := &Error{OAuth: clean(q.Get("error")), Suberror: clean(q.Get("error_subcode"))}
	if m := aadsts.FindStringSubmatch(q.Get("error_description")); m != nil {
		n, err := strconv.Atoi(m[1])
		if err == nil {
			e.AADSTS = []int{n}
		}
	}
	e.classify()
	return e
}

// clean keeps what error codes, ids and timestamps are made of.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune("_-.: ", r):
			return r
		}
		return -1
	}, s)
	return s[:min(len(s), 64)]
}
