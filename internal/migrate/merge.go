package migrate

import (
	"cmp"
	"slices"
	"strings"

	"github.com/manageddomains/md/internal/record"
)

// Named is a Set and the names that each of its certificates is for.
type Named struct {
	Names []string // as in the first certificate found
	Set   record.Set
}

// Sets puts certificates for the same names together: one of each key type,
// the one that lasts longest. They come in the order in which they were found.
func Sets(found []Found) []Named {
	var all []Named
	groups := make(map[string][]Found)
	var order []string
	for _, f := range found {
		names := slices.Clone(f.Names)
		slices.Sort(names)
		id := strings.Join(slices.Compact(names), " ") // no name has a space in it
		if groups[id] == nil {
			order = append(order, id)
		}
		groups[id] = append(groups[id], f)
	}
	for _, id := range order {
		all = append(all, Named{Names: groups[id][0].Names, Set: best(groups[id])})
	}
	return all
}

// For returns what was found for a Domain: of the certificates that cover all
// of its names, one of each key type, the one that lasts longest. Names are in
// lower case and ASCII, and IP addresses as netip.Addr writes them. It returns
// nil if none covers them all.
func For(names []string, found []Found) *record.Set {
	var covering []Found
	for _, f := range found {
		if len(names) > 0 && f.coversAll(names) {
			covering = append(covering, f)
		}
	}
	if covering == nil {
		return nil
	}
	set := best(covering)
	return &set
}

func (f *Found) coversAll(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !f.covers(name) })
}

// covers reports whether the certificate is for name: as it stands, or by a
// wildcard in the place of its first label (RFC 6125 §6.4.3).
func (f *Found) covers(name string) bool {
	_, parent, ok := strings.Cut(name, ".")
	return slices.Contains(f.Names, name) || ok && isName(name) && slices.Contains(f.Names, "*."+parent)
}

// best makes a Set of one certificate of each key type, first choice first.
func best(found []Found) record.Set {
	var set record.Set
	for _, keyType := range keyTypes {
		var newest *Found
		for i := range found {
			f := &found[i]
			if f.Credential.KeyType == keyType && (newest == nil || f.lasts(newest) > 0) {
				newest = f
			}
		}
		if newest != nil {
			set.Credentials = append(set.Credentials, newest.Credential)
		}
	}
	return set
}

// lasts compares two certificates by which is valid for longer, and then by
// which of them began later.
func (f *Found) lasts(than *Found) int {
	return cmp.Or(f.NotAfter.Compare(than.NotAfter), f.NotBefore.Compare(than.NotBefore))
}

// Chosen returns one account for each CA, by directory URL: the one with which
// most of the certificates were ordered, as far as that is known, else the first.
func Chosen(accounts []Account, found []Found) map[string]Account {
	used := make(map[string]int)
	for _, f := range found {
		if url := f.Credential.Account; url != "" {
			used[url]++
		}
	}
	chosen := make(map[string]Account)
	for _, a := range accounts {
		is, ok := chosen[a.CA]
		if !ok || used[a.Account.URL] > used[is.Account.URL] {
			chosen[a.CA] = a
		}
	}
	return chosen
}
