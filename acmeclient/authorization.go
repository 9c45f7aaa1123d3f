package acmeclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/crypto/acme"
)

// An Authorization is the CA's demand to prove control of one name (RFC 8555 §7.1.4).
type Authorization struct {
	URL        string
	Status     string      // StatusPending, StatusProcessing, StatusValid, StatusInvalid, StatusDeactivated, StatusExpired or StatusRevoked
	Name       string      // DNS name without "*.", see Wildcard, or IP address; in the form of Order.Names
	Wildcard   bool        // it is for "*." + Name
	Expires    time.Time   // zero: the CA does not say
	Challenges []Challenge // any one of them is enough
	Problem    *Problem    // of the challenge that failed; while pending, the CA may try that one again. Nil: the CA does not say
}

// A Challenge is one way to prove control of the name of its Authorization (RFC 8555 §7.1.5, §8).
type Challenge struct {
	Type  string // "http-01", "dns-01", "tls-alpn-01", …
	URL   string
	Token string // base64url, 1 to 128 bytes; empty if the type has none or the CA's is unusable

	// KeyAuthorization is the token and the thumbprint of the account key (RFC 8555 §8.1). Empty without Token.
	KeyAuthorization string

	Status string // StatusPending, StatusProcessing, StatusValid or StatusInvalid

	// Problem says why the challenge failed, or why it is unusable: then Token is empty though the type needs one.
	// A pending challenge with a Problem has failed before, and the CA would try again.
	Problem *Problem
}

const (
	maxChallenges = 50  // of one authorization; CAs offer up to five
	maxToken      = 128 // bytes; a token has 128 bits, 22 bytes, or somewhat more (RFC 8555 §8)
)

// Authorization looks at an authorization.
func (s *Session) Authorization(ctx context.Context, url string) (*Authorization, error) {
	a, _, err := s.authorization(ctx, "look at the authorization", url)
	return a, err
}

func (s *Session) authorization(ctx context.Context, op, url string) (a *Authorization, r *reply, err error) {
	err = s.look(ctx, op, url, func(ctx context.Context) error {
		_, err := s.acme.GetAuthorization(ctx, url)
		return err
	}, func(answer *reply) (err error) {
		r = answer
		a, err = s.decodeAuthorization(op, url, r)
		return err
	})
	return a, r, err
}

// Accept tells the CA that the answer to ch can be found (RFC 8555 §7.5.1). When it returns, the CA may already have looked or not.
// It says nothing to the CA if it has been told before, which is what StatusProcessing and StatusValid mean.
func (s *Session) Accept(ctx context.Context, ch Challenge) error {
	op := "accept the " + clean(ch.Type, 64) + " challenge"
	if ch.Token == "" && needsToken(ch.Type) {
		if ch.Problem != nil {
			return ch.Problem
		}
		return &Problem{Op: op, URL: ch.URL, Err: errors.New("it has no token")}
	}
	if ch.Status == StatusProcessing || ch.Status == StatusValid {
		return nil
	}
	r, err := s.do(ctx, op, ch.URL, func(ctx context.Context) error {
		_, err := s.acme.Accept(ctx, &acme.Challenge{URI: ch.URL})
		return err
	})
	if err != nil {
		var accepted bool
		if r, accepted = s.accepted(ctx, op, ch.URL, err); !accepted {
			return err
		}
	}
	if status := challengeStatus(op, r); status == StatusValid || status == StatusInvalid {
		return nil // the CA has looked at once
	}
	pause := r.retryAfter()
	if pause == 0 {
		pause = firstPause
	}
	s.lookFrom = time.Now().Add(pause)
	return nil
}

// accepted looks at a challenge after the CA refused to take the request, or its reply was lost. CAs say malformed to a challenge that
// is no longer pending, which would look like a fault of ours.
func (s *Session) accepted(ctx context.Context, op, url string, err error) (*reply, bool) {
	var p *Problem
	if ctx.Err() != nil || !errors.As(err, &p) || p.Status == http.StatusTooManyRequests {
		return nil, false
	}
	var r *reply
	err = s.look(ctx, op, url, func(ctx context.Context) error {
		_, err := s.acme.GetChallenge(ctx, url)
		return err
	}, func(answer *reply) error {
		r = answer
		if challengeStatus(op, r) == "" {
			return r.garbled(op, "is not a challenge: it has no status")
		}
		return nil
	})
	if err != nil {
		return nil, false
	}
	switch challengeStatus(op, r) {
	case StatusProcessing, StatusValid, StatusInvalid:
		return r, true
	}
	return nil, false
}

// challengeStatus returns the status in a reply that shows a challenge, or "" if it cannot be read.
func challengeStatus(op string, r *reply) string {
	var v struct{ Status string }
	if r.decode(op, &v) != nil {
		return ""
	}
	return v.Status
}

// WaitAuthorization waits until an authorization is neither pending nor processing, and returns it if it is valid.
// All else is an error: if a challenge has failed, it is the CA's Problem with that challenge, with the name. It may wrap ErrWait, and then
// have what the CA has met so far as Type and Detail.
func (s *Session) WaitAuthorization(ctx context.Context, url string) (*Authorization, error) {
	const op = "prove control of the name"
	w := newWaiting(op, url)
	if err := w.until(ctx, s.lookFrom); err != nil {
		return nil, err
	}
	for {
		a, r, err := s.authorization(ctx, op, url)
		if err != nil {
			return nil, err
		}
		switch a.Status {
		case StatusValid:
			return a, nil
		case StatusPending, StatusProcessing:
		default:
			p := failure(op, "the authorization", a.Status, url, a.Problem)
			p.Name = a.fullName()
			return nil, p
		}
		if err := w.wait(ctx, r); err != nil {
			return nil, a.stillPending(err)
		}
	}
}

// stillPending adds to err what has gone wrong so far: some CAs leave an authorization pending when they could not reach the site.
func (a *Authorization) stillPending(err error) error {
	var p *Problem
	if errors.As(err, &p) {
		p.Name = a.fullName()
		if a.Problem != nil {
			p.Type, p.Detail = a.Problem.Type, a.Problem.Detail
		}
	}
	return err
}

func (a *Authorization) fullName() string {
	if a.Wildcard {
		return "*." + a.Name
	}
	return a.Name
}

type wireAuthorization struct {
	Identifier wireIdentifier
	Status     string
	Expires    string
	Wildcard   bool
	Challenges []wireChallenge
}

type wireChallenge struct {
	Type, URL, Token, Status string
	Error                    *wireProblem
}

// decodeAuthorization reads the authorization with that URL from a reply.
func (s *Session) decodeAuthorization(op, url string, r *reply) (*Authorization, error) {
	var v wireAuthorization
	if err := r.decode(op, &v); err != nil {
		return nil, err
	}
	if v.Status == "" || v.Identifier.Value == "" {
		return nil, r.garbled(op, "is not an authorization: it has no status or no name")
	}
	if len(v.Challenges) > maxChallenges {
		return nil, r.invalidReply(op, fmt.Sprintf("offers more than %d challenges", maxChallenges))
	}
	a := &Authorization{
		URL:      url,
		Status:   clean(v.Status, 32),
		Name:     canonicalIdentifier(clean(v.Identifier.Value, maxShort)),
		Wildcard: v.Wildcard,
		Expires:  parseTime(v.Expires),
	}
	for _, w := range v.Challenges {
		c := s.challenge(w, a.fullName())
		a.Challenges = append(a.Challenges, c)
		if a.Problem == nil && w.Error != nil {
			a.Problem = c.Problem
		}
	}
	return a, nil
}

// challenge checks the token before anything is made of it: it becomes a path, a file's name, a DNS record.
func (s *Session) challenge(w wireChallenge, name string) Challenge {
	c := Challenge{Type: clean(w.Type, 64), URL: w.URL, Status: clean(w.Status, 32)}
	if w.Error != nil {
		c.Problem = w.Error.problem()
	}
	switch {
	case w.Token == "" && !needsToken(c.Type):
	case w.Token == "" || len(w.Token) > maxToken || !isBase64URL(w.Token):
		c.Problem = &Problem{Err: fmt.Errorf("the CA's token %q is not 1 to %d characters of base64url (RFC 8555 §8)", clean(w.Token, maxToken), maxToken)}
	default:
		thumbprint, err := acme.JWKThumbprint(s.key.Public())
		if err != nil {
			c.Problem = &Problem{Err: err}
			break
		}
		c.Token = w.Token
		c.KeyAuthorization = w.Token + "." + thumbprint
	}
	if c.Problem != nil {
		c.Problem.Op, c.Problem.URL, c.Problem.Name = "use the "+c.Type+" challenge", c.URL, name
	}
	return c
}

// needsToken reports whether challenges of that type are answered with a token. Others, such as dns-persist-01, may come without.
func needsToken(typ string) bool {
	switch typ {
	case "http-01", "dns-01", "tls-alpn-01", "dns-account-01":
		return true
	}
	return false
}
