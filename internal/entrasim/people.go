package entrasim

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"vmcp/internal/guid"
)

// Directory is the people of the tenant and how they are assigned to the application. As YAML:
//
//	assignmentRequired: true
//	people:
//	  - upn: dev@contoso.example
//	    name: Developer
//	    oid: 5d000000-0000-4000-8000-000000000001
//	    roles: [mcp-developers]
type Directory struct {
	// AssignmentRequired is "Assignment required?" of the enterprise application (step 3 of the guide).
	AssignmentRequired bool     `yaml:"assignmentRequired"`
	People             []Person `yaml:"people"`
}

// Person is one user account.
type Person struct {
	UPN  string `yaml:"upn"`  // user principal name; how people are named here
	Name string `yaml:"name"` // display name
	OID  string `yaml:"oid"`  // object id, a GUID
	// Roles are values of app roles. None, and still assigned, is "Default Access", which adds no roles claim ("Add app
	// roles to your application").
	Roles      []string `yaml:"roles"`
	Unassigned bool     `yaml:"unassigned"` // not assigned to the application at all
	Guest      bool     `yaml:"guest"`      // of another tenant, invited
	Disabled   bool     `yaml:"disabled"`   // the account is blocked

	grantsAfter int // grants with a lower number are revoked
}

//go:embed people.yaml
var defaultDirectory []byte

// DefaultDirectory returns one person per role of the guide, one assigned without a role, and one not assigned.
func DefaultDirectory() Directory {
	d, err := ParseDirectory(defaultDirectory)
	if err != nil {
		panic(err) // the file is ours
	}
	return d
}

// LoadDirectory reads a YAML file.
func LoadDirectory(file string) (Directory, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return Directory{}, fmt.Errorf("people: %w", err)
	}
	d, err := ParseDirectory(raw)
	if err != nil {
		return Directory{}, fmt.Errorf("people: %s: %w", file, err)
	}
	return d, nil
}

// ParseDirectory reads YAML. Unknown keys are errors.
func ParseDirectory(text []byte) (Directory, error) {
	var d Directory
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&d); err != nil && !errors.Is(err, io.EOF) {
		return Directory{}, err
	}
	return d, d.validate()
}

// appRole is a value of an app role: no spaces ("App manifest", appRoles); at most 120 characters.
var appRole = regexp.MustCompile(`^[!-~]{1,120}$`)

func (d Directory) validate() error {
	var errs []error
	if len(d.People) == 0 {
		errs = append(errs, errors.New("nobody in people"))
	}
	upns, oids := map[string]bool{}, map[string]bool{}
	for i, p := range d.People {
		at := fmt.Sprintf("people[%d] (%s)", i, p.UPN)
		if !strings.Contains(p.UPN, "@") || upns[strings.ToLower(p.UPN)] {
			errs = append(errs, fmt.Errorf("%s: upn: want name@domain, once", at))
		}
		if !guid.Valid(p.OID) || oids[p.OID] {
			errs = append(errs, fmt.Errorf("%s: oid: want a GUID in lower case, once", at))
		}
		upns[strings.ToLower(p.UPN)], oids[p.OID] = true, true
		if p.Unassigned && len(p.Roles) > 0 {
			errs = append(errs, fmt.Errorf("%s: roles: a role is an assignment, and unassigned says there is none", at))
		}
		for _, role := range p.Roles {
			if !appRole.MatchString(role) {
				errs = append(errs, fmt.Errorf("%s: roles: %q: want 1 to 120 characters without spaces", at, role))
			}
		}
	}
	return errors.Join(errs...)
}

func (d Directory) clone() Directory {
	d.People = slices.Clone(d.People)
	for i := range d.People {
		d.People[i].Roles = slices.Clone(d.People[i].Roles)
	}
	return d
}

// person finds an account by its user principal name. The result points into d.
func (d *Directory) person(upn string) *Person {
	for i := range d.People {
		if strings.EqualFold(d.People[i].UPN, upn) {
			return &d.People[i]
		}
	}
	return nil
}
