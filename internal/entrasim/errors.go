package entrasim

import (
	"fmt"
	"net/http"
	"time"
)

// A fault is one of Entra's errors. Numbers and OAuth codes follow "Microsoft Entra authentication & authorization error
// codes" and the error sections of the flows' pages; the texts are shortened.
type fault struct {
	code     int
	oauth    string
	status   int
	suberror string
	text     string // with one verb, or none
	arg      string
	claims   string // of a Conditional Access challenge
}

var catalogue = map[int]fault{
	16000:   {oauth: "interaction_required", text: "Either multiple user identities are available for the current request or selected account is not supported for the scenario."},
	28002:   {oauth: "invalid_scope", text: "Provided value for the input parameter scope '%s' is not valid when requesting an access token."},
	50011:   {oauth: "invalid_request", text: "The redirect URI '%s' specified in the request does not match the redirect URIs configured for the application. Make sure the redirect URI sent in the request matches one added to your application in the Azure portal."},
	50020:   {oauth: "invalid_grant", text: "User account '%s' from identity provider does not exist in tenant and cannot access the application."},
	50034:   {oauth: "invalid_grant", text: "The user account '%s' does not exist in the directory."},
	50057:   {oauth: "invalid_grant", text: "The user account is disabled."},
	50058:   {oauth: "login_required", text: "A silent sign-in request was sent but no user is signed in."},
	50076:   {oauth: "interaction_required", suberror: "basic_action", claims: `{"access_token":{"capolids":{"essential":true,"values":["00000000-0000-4000-8000-0000000000ca"]}}}`, text: "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access '%s'."},
	50105:   {oauth: "access_denied", text: "Your administrator has configured the application to block users unless they are specifically granted ('assigned') access to the application. The signed in user '%s' is blocked because they are not a direct member of a group with access, nor had access directly assigned by an administrator."},
	50173:   {oauth: "invalid_grant", suberror: "bad_token", text: "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password."},
	50194:   {oauth: "invalid_request", text: "Application '%s' is not configured as a multi-tenant application. Usage of the /common endpoint is not supported for such apps. Use a tenant-specific endpoint."},
	50196:   {oauth: "invalid_grant", text: "The server terminated an operation because it encountered a client request loop."},
	53003:   {oauth: "interaction_required", suberror: "message_only", claims: `{"access_token":{"capolids":{"essential":true,"values":["00000000-0000-4000-8000-0000000000cb"]}}}`, text: "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance."},
	54005:   {oauth: "invalid_grant", text: "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token."},
	65001:   {oauth: "invalid_grant", suberror: "consent_required", text: "The user or administrator has not consented to use the application with ID '%s'. Send an interactive authorization request for this user and resource."},
	65004:   {oauth: "access_denied", text: "User declined to consent to access the app."},
	70000:   {oauth: "invalid_grant", text: "Provided grant is invalid or malformed."},
	70002:   {oauth: "invalid_client", status: 401, text: "Error validating credentials."},
	70003:   {oauth: "unsupported_grant_type", text: "The app requested an unsupported grant type '%s'."},
	70005:   {oauth: "unsupported_response_type", text: "The app requested an unsupported response type '%s'."},
	70007:   {oauth: "invalid_request", text: "'%s' is not a supported value of 'response_mode' when requesting a token."},
	70008:   {oauth: "invalid_grant", text: "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for this user and resource."},
	70011:   {oauth: "invalid_scope", text: "The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not valid. The scope '%s' is not valid."},
	70043:   {oauth: "invalid_grant", suberror: "bad_token", text: "The refresh token has expired or is invalid due to sign-in frequency checks by conditional access."},
	90002:   {oauth: "invalid_request", text: "Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud."},
	90009:   {oauth: "invalid_request", text: "Application '%s' is requesting a token for itself. This scenario is supported only if resource is specified using the GUID based App Identifier."},
	90033:   {oauth: "temporarily_unavailable", status: 503, text: "A transient error has occurred. Please try again."},
	90055:   {oauth: "temporarily_unavailable", status: 429, text: "Request is throttled. Please try again."},
	90094:   {oauth: "access_denied", text: "'%s' needs permission to access resources in your organization that only an admin can grant."},
	500011:  {oauth: "invalid_resource", text: "The resource principal named '%s' was not found in the tenant. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant."},
	500112:  {oauth: "invalid_client", text: "The reply address '%s' does not match the reply address provided when requesting Authorization code."},
	501481:  {oauth: "invalid_grant", text: "The Code_Verifier does not match the code_challenge supplied in the authorization request."},
	501491:  {oauth: "invalid_request", text: "Invalid size of Code_Challenge parameter."},
	650053:  {oauth: "invalid_client", text: "The application asked for scope '%s' that doesn't exist on the resource. Contact the app vendor."},
	700016:  {oauth: "unauthorized_client", text: "Application with identifier '%s' was not found in the directory. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant."},
	700022:  {oauth: "invalid_request", text: "The provided value for the input parameter 'scope' is not valid because it contains more than one resource. Scope %s is not valid."},
	700082:  {oauth: "invalid_grant", suberror: "bad_token", text: "The refresh token has expired due to inactivity."},
	700084:  {oauth: "invalid_grant", suberror: "bad_token", text: "The refresh token was issued to a single page app (SPA), and therefore has a fixed, limited lifetime."},
	900144:  {oauth: "invalid_request", text: "The request body must contain the following parameter: '%s'."},
	901002:  {oauth: "invalid_request", text: "The 'resource' request parameter is not supported."},
	7000215: {oauth: "invalid_client", status: 401, text: "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '%s'."},
	7000218: {oauth: "invalid_client", status: 401, text: "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."},
	7000222: {oauth: "invalid_client", status: 401, text: "The provided client secret keys for app '%s' are expired. Create new keys for your app in the Azure portal."},
	9002313: {oauth: "invalid_request", text: "Invalid request. Request is malformed or invalid."},
	9002326: {oauth: "invalid_request", text: "Cross-origin token redemption is permitted only for the 'Single-Page Application' client-type. Request origin: '%s'."},
	9010010: {oauth: "invalid_target", text: "The resource parameter provided in the request doesn't match with the requested scopes."},
}

// failure returns the error with that AADSTS number. One that is not in the list is an invalid_request.
func failure(code int, arg string) fault {
	f, ok := catalogue[code]
	if !ok {
		f = fault{oauth: "invalid_request", text: "An error that this simulation has no text for."}
	}
	f.code, f.arg = code, arg
	if f.status == 0 {
		f.status = http.StatusBadRequest
	}
	return f
}

// occurrence is what a fault carries each time it happens.
type occurrence struct {
	fault
	Trace, Correlation string
	Time               time.Time
}

func (t *Tenant) occur(f fault) occurrence {
	return occurrence{f, newGUID(), newGUID(), t.Now().UTC()}
}

func (o occurrence) Code() string { return fmt.Sprintf("AADSTS%d", o.code) }

func (o occurrence) Text() string {
	text := o.text
	for i := range len(text) - 1 {
		if text[i:i+2] == "%s" {
			text = text[:i] + o.arg + text[i+2:]
			break
		}
	}
	return text
}

func (o occurrence) Timestamp() string { return o.Time.Format("2006-01-02 15:04:05Z") }

// description is the form of error_description everywhere.
func (o occurrence) description() string {
	return fmt.Sprintf("%s: %s Trace ID: %s Correlation ID: %s Timestamp: %s", o.Code(), o.Text(), o.Trace, o.Correlation, o.Timestamp())
}

// failJSON answers as the token endpoint does ("Authorization code flow", error response).
func (t *Tenant) failJSON(w http.ResponseWriter, f fault) {
	o := t.occur(f)
	body := map[string]any{
		"error": o.oauth, "error_description": o.description(), "error_codes": []int{o.code}, "timestamp": o.Timestamp(),
		"trace_id": o.Trace, "correlation_id": o.Correlation, "error_uri": fmt.Sprintf("%s/error?code=%d", authority, o.code),
	}
	if o.suberror != "" {
		body["suberror"] = o.suberror
	}
	if o.claims != "" {
		body["claims"] = o.claims
	}
	respond(w, o.status, body)
}

func newGUID() string {
	b := randomBytes(16)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // RFC 9562 version 4
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
