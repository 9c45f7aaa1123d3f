package acmeclient

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"text/template"
)

const leak = "leaky-hmac-value"

// wantNoLeak looks for the secret as it is and as verbs would write its bytes.
func wantNoLeak(t testing.TB, how, got string) {
	t.Helper()
	for _, form := range []string{leak, hex.EncodeToString([]byte(leak)), fmt.Sprintf("% x", leak), fmt.Sprintf("%d", []byte(leak[:4])), fmt.Sprintf("%o", []byte(leak[:4]))} {
		if strings.Contains(strings.ToLower(got), strings.Trim(form, "[]")) {
			t.Errorf("%s: got %q, which shows the secret", how, got)
		}
	}
}

type outer struct{ Inner inner }

type inner struct {
	Name   string
	Secret Secret
}

type hidden struct{ secret Secret }

func TestSecretIsMaskedInEveryVerb(t *testing.T) {
	s := NewSecret(leak)
	masks := map[string]any{
		"itself":               s,
		"a pointer":            &s,
		"a field of a field":   outer{inner{"name", s}},
		"a field by pointer":   &outer{inner{"name", s}},
		"a slice":              []Secret{s},
		"a map":                map[string]Secret{"k": s},
		"a map's key":          map[Secret]int{s: 1},
		"an interface":         []any{s},
		"an EAB":               EAB{KeyID: "kid", HMAC: s},
		"an error that has it": fmt.Errorf("cannot use %v", s),
	}
	others := map[string]any{
		"an unexported field":                    hidden{s},
		"an unexported field by pointer":         &hidden{s},
		"a CA with a password and an EAB":        CA{Name: "mine", Proxy: "http://u:" + leak + "@proxy:1", EAB: EAB{HMAC: s}},
		"an Endpoint":                            CA{Proxy: leak}.Endpoint(),
		"an Endpoint as a key":                   map[Endpoint]bool{CA{Proxy: leak}.Endpoint(): true},
		"a struct with an EAB, not its own type": struct{ E EAB }{EAB{HMAC: s}},
	}
	for _, flags := range []string{"", "+", "#", "-30", "030", " ", ".3"} {
		for _, verb := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
			format := "%" + flags + string(verb)
			for name, v := range masks {
				got := fmt.Sprintf(format, v)
				wantNoLeak(t, format+" of "+name, got)
				address := name == "a pointer" || strings.HasSuffix(name, "by pointer")
				_, isError := v.(error)
				if !strings.ContainsRune("Tpw", verb) && !isError && !address && !strings.Contains(got, masked) {
					t.Errorf("%s of %s: got %q, want %s in it", format, name, got, masked)
				}
			}
			for name, v := range others {
				if _, ok := v.(CA); ok && strings.ContainsRune("pw", verb) {
					continue // no method is asked, and a CA's Proxy is a string
				}
				wantNoLeak(t, format+" of "+name, fmt.Sprintf(format, v))
			}
		}
	}
	for how, got := range map[string]string{"Print": fmt.Sprint(s), "Println": fmt.Sprintln(s), "String": s.String(), "GoString": s.GoString(),
		"an error": errors.Join(fmt.Errorf("no: %w", fmt.Errorf("%s", s))).Error()} {
		if !strings.Contains(got, masked) || strings.Contains(got, leak) {
			t.Errorf("%s: got %q, want %s", how, got, masked)
		}
	}
	if got := fmt.Sprintf("%v|%s|%q|%x|%d|%#v|%+v", s, s, s, s, s, s, s); got != strings.TrimSuffix(strings.Repeat("***|", 7), "|") {
		t.Errorf("got %q", got)
	}
}

func TestSecretIsMaskedInLogsAndDocuments(t *testing.T) {
	v := outer{inner{"name", NewSecret(leak)}}
	ca := CA{Name: "mine", Proxy: "http://u:" + leak + "@proxy:1", EAB: EAB{KeyID: "kid", HMAC: NewSecret(leak)}, AccountKey: testKey(t, P256)}
	var text, doc, page bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&text, nil), slog.NewJSONHandler(&doc, nil)} {
		log := slog.New(h).With("with", NewSecret(leak)).WithGroup("group")
		log.Info("message", "secret", NewSecret(leak), "struct", v, "pointer", &v, "any", []any{v.Inner.Secret}, "ca", ca, "eab", ca.EAB, slog.Group("g", "s", v.Inner.Secret))
	}
	if err := template.Must(template.New("").Parse("{{.}} {{.Inner.Secret}} {{printf \"%x\" .Inner.Secret}}")).Execute(&page, v); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(map[string]any{"v": v, "ca": ca, "p": &v.Inner.Secret, "k": map[Secret]int{v.Inner.Secret: 1}})
	if err != nil {
		t.Fatal(err)
	}
	asXML, err := xml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	for how, got := range map[string]string{"slog as text": text.String(), "slog as JSON": doc.String(), "a template": page.String(), "JSON": string(asJSON), "XML": string(asXML)} {
		wantNoLeak(t, how, got)
		if !strings.Contains(got, masked) {
			t.Errorf("%s: got %s, want %s in it", how, got, masked)
		}
		if strings.Contains(got, `"D":`) || strings.Contains(got, "Curve") {
			t.Errorf("%s: got %s, which has the account key in it", how, got)
		}
	}
}

func TestSecretIsReadFromJSONButNotItsMask(t *testing.T) {
	var got inner
	if err := json.Unmarshal([]byte(`{"Name": "n", "Secret": "`+leak+`"}`), &got); err != nil {
		t.Fatal(err)
	}
	if got.Secret.Reveal() != leak || got.Secret != NewSecret(leak) {
		t.Errorf("got %q, want %q", got.Secret.Reveal(), leak)
	}
	written, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, json.Unmarshal(written, &got), "masked")
	if got.Secret.Reveal() != leak {
		t.Errorf("after the error: got %q, want what was there", got.Secret.Reveal())
	}
}

func TestSecretsAreEqualIfTheirTextsAre(t *testing.T) {
	if a, b := NewSecret("a"+leak), NewSecret(strings.Join([]string{"a", leak}, "")); a != b {
		t.Error("equal texts: got different Secrets")
	}
	if NewSecret("a") == NewSecret("b") || NewSecret("a").IsZero() {
		t.Error("different texts: got equal Secrets")
	}
	if zero := (Secret{}); NewSecret("") != zero || !zero.IsZero() || zero.Reveal() != "" {
		t.Error("no text: got another Secret than the zero one")
	}
}
