// Package md gets, renews and serves the TLS certificates of a Go server over
// ACME (RFC 8555), from Let's Encrypt or any other CA that speaks it.
//
// You declare [Domain] values, each a set of names that share certificates. A
// [Manager] looks after them for as long as the server runs: it orders what is
// missing, renews in time, puts new certificates into use without a restart,
// and keeps everything in a [Store]. It is made for servers that run for
// years without anybody looking after their certificates.
//
// # Quick start
//
//	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
//	defer stop()
//	m := &md.Manager{
//		Domains:     []md.Domain{{Names: []string{"example.com", "www.example.com"}}},
//		AcceptTerms: true, // of the CA: Let's Encrypt, if you name no other
//	}
//	if err := m.ListenAndServe(ctx, app); err != nil { // nil after ctx ends
//		log.Fatal(err)
//	}
//
// This listens on ports 80 and 443, gets one certificate for both names, and
// renews it when the CA suggests it, or else when a third of its life is left.
// Started again, it orders nothing: the certificate is there. There is nothing
// to close; what was started has ended when the method returns.
//
// # Servers of your own
//
// [Manager.ListenAndServe] and [Manager.Serve] are made of parts that can be
// used one by one:
//
//   - [Manager.Check] finds all configuration errors at once.
//   - [Manager.Load] reads the Store, so that what is there is served from the
//     first handshake on. Call it before you open a listener.
//   - [Manager.TLSConfig] is for any TLS server, over net/http or not. For a
//     tls.Config of your own, there are [Manager.GetCertificate] and
//     [Manager.GetConfigForClient].
//   - [Manager.HTTPHandler] goes around the handler of port 80, and
//     [Manager.HTTPSHandler] around that of port 443. Put them before
//     whatever redirects or asks who is there.
//   - [Manager.Run] gets and renews until its context ends. All other methods
//     work without it, with what the Store has.
//   - [Manager.Ready] waits until there are certificates, and says at once if
//     somebody's help is needed.
//
// [Manager.Update] replaces the Domains of a Manager that is running.
// [Manager.Renew] orders at once, [Manager.Activate] ends the waiting of
// certificates that are to come into use later, [Manager.Revoke] replaces and
// then revokes, and [Manager.Restore] goes back to certificates that
// [Manager.Archived] lists. They work with and without Run.
//
// # What happens at start
//
// The configuration is checked as a whole. If something in it cannot work, all
// methods that return an error say what, and nothing is served.
//
// Then the Store is read, and what it has is served. No CA is contacted for
// that, and nothing waits for one: a restart works while the CA is away. If
// the Store does not answer, Run says so in the log and tries again. Nothing
// is done in the background before Run is called.
//
// A name that has no certificate yet is served a self-signed fallback one.
// Browsers warn of it, and HTTPSHandler answers 503 for that name, so that
// nobody is asked for a password there; other names are not concerned. For
// names that belong to no Domain there is no certificate at all: TLSConfig has
// the alert unrecognized_name sent.
//
// A value in the Store that cannot be read for what it should be is logged
// with its place. It is copied to the archive and made again; the other
// Domains are not concerned.
//
// # Domains
//
// Names may be written as people write them, in Unicode or ASCII, in any case;
// they are converted as browsers do (UTS #46), and two spellings of a name are
// one name. What cannot stand in a certificate is an error: underscores, labels
// of more than 63 bytes, names of more than 253. IP addresses are names, too:
// they are served to clients that send no name, by the address they came to. A
// name belongs to one Domain. A wildcard ("*.example.com") covers names with one
// more label; where such a name is in another Domain itself, that Domain
// serves it.
//
// A Domain has a certificate for each of its KeyTypes, and each client gets
// the first that it can use. Its Name, which is its first DNS name unless you
// say otherwise, is what it is known by in the Store: change Names and keep
// the Name, and what there is serves until the next certificate covers them.
//
// Names may move between Domains. One that has no certificate in its own
// Domain yet is served with that of its former Domain while that is in date,
// also after a restart. A Domain that has nothing under its Name takes over
// the certificates of one that is no longer declared, if they cover all of its
// names: it was renamed.
//
// A [CA] is known by name ("letsencrypt", "google", "zerossl" and others, see
// [github.com/manageddomains/md/acmeclient.KnownCAs]) or given by the URL of
// its ACME directory, with Roots if its own server has a certificate from a
// private CA, and a Proxy if there is one on the way. One that wants accounts to
// be bound to a contract with it gets the EAB that it has given you. What a
// Domain leaves zero, Manager.Default fills.
//
// # What certificates are asked for
//
// Beside names and key types, a Domain may ask for a Profile or a Lifetime, for
// a Chain to a certain root, for certificates that demand OCSP stapling, and for
// the same key again (ReuseKey). CAs differ in what they offer. What one does
// not offer is left out, and the log and the status tell of it ("warning"); it
// is no reason to order again, because the CA would do the same. Only a Profile
// with ProfileRequired is a condition.
//
// With Rehearse, the first order after a change goes to the CA's test
// endpoint, so that a firewall that is closed spends no limits.
//
// A CA of the protocol Tailscale is the daemon of that name on this machine: it
// has a certificate for one name, and needs neither account nor challenges.
//
// # Accounts and keys
//
// All Domains with the same CA and the same EAB share an account. With another
// EAB there is another account, and going back finds the former one: a binding
// that is good for one account is never used for a second. Contacts are those
// of the first Domain that has any, and the CA is told when they change. If its
// terms change and are accepted (AcceptTerms), it is told that, too; otherwise
// log, event and status name the page. [Manager.RollAccountKey],
// [Manager.DeactivateAccount], [Manager.ExportAccount] and
// [Manager.ImportAccount] are for what people do with accounts.
//
// Keys are generated and kept in the Store. CA.AccountKey is an account's key
// that is kept elsewhere, and Domain.NewKey makes those of certificates; the
// Store remembers a reference, and Domain.OpenKey finds the key again after a
// restart. Where that cannot be reached, what is in memory is served on, and
// nothing is ordered.
//
// # Certificates of your own
//
// With CertFiles and KeyFiles, a Domain serves what somebody else looks after.
// The files are read again when they change, and never in halves: while they do
// not match, what was read before is served. Nothing is ordered for such a
// Domain, unless its RenewMode is RenewAlways: then what was ordered is served
// when the files are gone, or have expired. With RenewManual nothing is ordered
// for any Domain, until somebody calls Renew. The event expiring warns of all
// of them.
//
// # Names on demand
//
// Who serves customers' names cannot declare them all. Manager.OnDemand is
// asked when a client wants a name that no Domain has, and returns the Domain
// to have it in. The handshake waits for the certificate (OnDemandWait). From
// there on the Domain is looked after like those that are declared, also after
// a restart, as long as clients want it and OnDemand allows it.
//
// A client can make up any name. So OnDemand is asked once for all who want a
// name at a moment, refusals are remembered for a minute, and questions are
// rationed by client and by registered domain. It is the place to look whether
// the name is a customer's: what it allows is ordered.
//
// # How names are proved
//
// A CA looks whether the names are yours, in one of several ways. Two are
// built in, and one of them is enough:
//
//   - tls-alpn-01 (RFC 8737): it connects to port 443. TLSConfig answers.
//   - http-01: it asks at port 80. HTTPHandler answers, and HTTPSHandler too,
//     since CAs follow redirects.
//
// If the CA refuses one, the next attempt prefers the other. Servers that
// cannot be reached from outside, and wildcards, need a [Challenger] of your
// own for DNS: three methods that make a TXT record visible and take it away
// again. See package challenge, and the example of Challenger here. A Domain
// tries its Challengers in their order; answers are taken away after each
// attempt, and after a crash by the next one.
//
// Answers are kept in the Store. So it does not matter which of several
// processes that share one the CA happens to reach: all of them answer and
// serve, and for each Domain one of them orders. The others take up its
// certificates within a minute.
//
// # Where things are kept
//
// In Manager.Store. Without it, in files: at $STATE_DIRECTORY, which systemd
// sets for a unit with StateDirectory=, or else at md in the user's
// configuration directory.
//
//	accounts/<ca>/<id>    the account at a CA, with its key
//	domains/<name>        keys and certificates in use
//	staging/<name>        those being ordered, or about to be put into use
//	archive/<name>/…      former ones, and copies of what could not be read
//	jobs/<name>           failures, the next attempt, what happened
//	limits/<ca>/<id>/…    what the CA's limits leave to the account and to names
//	declared/<name>       Domains that were allowed on demand
//	leases/<name>         which process works on the Domain
//	account-leases/…      which process changes an account
//	challenges/…          answers to challenges that are going on
//
// Back up accounts and domains, and staging where certificates wait in it.
// Without the rest a Manager goes on, but former certificates and limits are
// forgotten. The archive keeps the ten newest Sets of a Domain and all of the
// last week, for 400 days at most, and five copies of broken values; it is
// pruned when certificates are activated. What belongs to a Domain that is no longer declared stays
// until you remove it.
//
// The value of domains/<name>, a Set, is one PEM text: for each key type a
// block with what is known of the certificate, the private key, and the chain,
// leaf first. With one key type, HAProxy, nginx and openssl can use the file as
// it stands. Do not edit it: its hash is in it, and one that does not match is
// replaced.
//
// The Store holds private keys. [store.Dir] makes files that only their owner
// can read, and on Unix refuses a directory that others may write to.
// [store.Encrypted] seals all that goes into another Store, for those that are
// shared or belong to somebody else.
// [store.Memory] keeps everything in the process, and orders anew at each
// start: it is for tests.
//
// # When it is renewed
//
// A CA that offers renewal information (RFC 9773) suggests when, and is asked
// as often as it says. It decides between half and 85 % of a certificate's
// life. When the time that it suggests has passed, the certificate is renewed
// at once: so a CA tells that it is about to revoke it. With Domain.ARI Off no
// CA is asked.
//
// Where the CA suggests nothing, a certificate is renewed when a third of its
// life is left, or half of it where it lives for less than ten days.
// Domain.RenewWindow says otherwise; then a CA can only ask for less. A window
// that would begin in the first tenth of a certificate's life is not used.
// Deadlines are met within a minute also after the machine was suspended, or
// its clock set.
//
// Renew orders at once. But for the same names and key type nothing is ordered
// from one CA within ten minutes, or a hundredth of the lifetime if that is
// longer: a loop around Renew does not use up what the CA allows.
//
// # When it is activated
//
// Certificates come into use as soon as they are there, in all processes that
// share the Store. With Domain.ActivationDelay they wait in staging, for
// clients whose clocks are behind; but not if those in use lack something, are
// to be revoked, or would end meanwhile. With Domain.HoldActivation they wait
// for Activate, the first ones included, and whatever happens to those in use:
// see to it that somebody comes. The status shows what waits, and the event
// expiring warns when those in use near their end. What Renew and Revoke get
// does not wait; where certificates wait already, Renew activates these instead
// of ordering others.
//
// Revoke gets certificates with other keys, has them served, and only then has
// the former ones revoked. Restore puts certificates from the archive back
// into use; it does not know whether they have been revoked. If they are due,
// they are renewed at the next look.
//
// # Failures
//
// What fails is tried again after 30 seconds (Manager.RetryDelay), and then
// after twice that, up to a day, each give or take a half; and no later than
// after a tenth of the life that is left to the certificates in use. After a
// certificate that cannot be used, the first delay is an hour. What will fail
// again until somebody changes something, such as terms that are not accepted,
// is tried once a day. If the CA says when it wants to be asked again, that is
// obeyed: up to two days from a Retry-After header, up to a week from the words
// of a limit. Failures and the time of the next attempt are in the Store, where
// they outlast a restart. Once you have repaired what was wrong, Renew does not
// wait for that time; nor does Run, when the names, key types, CAs, contacts or
// challenge types have changed since, or the terms have been accepted.
//
// With several CAs in Domain.CAs, the next is asked after Manager.RetryFailover
// failures in a row (13), or when a quarter of the time is gone, or will be
// before the CA takes an order again. Time is what was left of the
// certificates in use when the renewal began; what a veto takes of it before
// that does not count. Where a name has none that is in date, the next is asked
// after an hour of failures, or as soon as the CA wants to be left alone
// for more than five minutes. What fails because of a name, such as one that
// does not resolve, would fail at the next CA, too, and does not count. After
// the last CA comes the first, or whichever may be asked again before the
// others: each has a delay of its own, as if it were the only one. The next
// renewal begins with the first.
//
// The limits of CAs are obeyed before they are met: orders of an account,
// failed validations of a name, and certificates for the same names are counted
// in the Store, for all processes together. The numbers are those of Let's
// Encrypt, for other CAs without the last of the three; CA.Limits has others.
// What a CA says of a limit is written down, for the account or the names that
// it is about. Names that it has paused are left
// alone for a week; the error and the status name the page where you can unpause
// them. Call Renew when you have. It obeys all other limits.
//
// Up to 32 Domains at a time are worked on at one CA, each attempt for 15
// minutes at most; where a CA asks for more than a minute of patience, the
// order is put aside until then. A Domain that fails does not hold up others.
// While it does, the certificate that there is stays in use, even after its
// end.
//
// Each operation of the Store gets a context that ends after 15 seconds, a list
// after 5 minutes. A Notifier has a minute for an event, a Challenger the rest
// of the attempt; what has not returned ten seconds after that is left behind,
// and Run names it when it ends. A panic in them is an error like others.
//
// A process may be killed at any moment. Keys are stored before a CA hears of
// them, and an order's URL with its key; the next attempt goes on from there,
// be it of this process or another. A new certificate comes into use as a
// whole or not at all, by one write to the Store. If the Store does not take
// it, it is served from memory, and written when the Store does: an issued
// certificate is never thrown away.
//
// # Being told
//
// A [Notifier] hears of these events:
//
//	renewing         before an attempt; at most once an hour
//	challenge-setup  an answer is in place, and the CA not yet told to look
//	renewed          certificates have been obtained and stored
//	installed        this process serves other certificates than before
//	errored          an attempt has failed; at most once an hour
//	expiring         a certificate in use nears its end; at most once a day
//
// It hears installed in every process, the others once for all that share a
// Store. Errored may come for what has helped itself an hour later; expiring
// says that it has not. That begins when a tenth of the life is left
// (Domain.WarnWindow), or when a veto has lasted for a third of the time in
// which there should have been a renewal. It is about certificates in use: a
// Domain that never got one raises errored only. Renewed is repeated, also
// after a restart, until the Notifier returns nil.
//
// A Notifier may veto renewing and challenge-setup with an error that wraps
// [ErrVeto]; no other error stops anything. A vetoed attempt is made at the
// next regular look (Manager.CheckInterval), in place of a vetoed challenge
// the next type is tried.
//
// [status.Command] is a Notifier that runs a program, in the two ways in which
// Apache's mod_md does.
//
// [Manager.Status] reports how each Domain stands, [status.Text] and
// [status.JSON] serve that over HTTP. The report names all Domains and what
// goes wrong with them: decide who may see it. The log goes to Manager.Logger.
// Neither ever shows a key.
//
// # Moving here
//
// [Manager.Import] takes over certificates and accounts from certbot, certmagic
// and Caddy, autocert, lego and acme.sh, and certificates from PEM files. Nothing
// is ordered for what is there; it is renewed in its time.
//
// # Trying it
//
// Let's Encrypt has a second CA for trying things out, with generous limits
// and certificates that no browser trusts:
//
//	Default: md.Domain{CAs: []md.CA{{Name: "letsencrypt-staging"}}},
//
// Give it a Store of its own: certificates that are there stay in use until
// their time comes, whichever CA they are from.
//
// Package [github.com/manageddomains/md/acmeclient/acmetest] is a CA for tests
// in the same process, without a network, also inside testing/synctest. The
// example named Testing shows an application with it.
//
// # Why it is so
//
// For those who work on this package; what follows is nothing to rely on.
//
//   - The stored answer to a tls-alpn-01 challenge holds no private key.
//     Whichever process is asked makes a key for that one handshake, so that
//     nothing secret is in the Store for it, and nothing has to be kept in
//     step with the answer.
//   - Whether the Notifier has still to hear of a renewal is not stored as a
//     task. The Job has the hash of the Set that it has accepted
//     (Job.Announced), and the event is due while the Set that was obtained
//     last has another. So no crash between two writes can lose it.
//   - Challenge answers are read from the Store in rounds, with nothing
//     remembered between them. A cache of answers that are not there, be it
//     for a second, would let anybody who asks ahead of the CA hide one that
//     comes. A flood costs ten rounds a second, whatever its size.
//   - There is a floor under all that orders: the rest between two
//     certificates for the same names from one CA. It holds whatever windows,
//     renewal information and users say, so that no mistake in them uses up
//     a CA's limits. Only Revoke is above it, and what lacks a name or a key
//     type. A certificate that is said to have come in the future sets no
//     floor, so that a clock that was wrong once does not hold up renewals.
//   - The Job has a fingerprint of the configuration with which the last
//     attempt was made (Job.For). With another, the delay after its failure
//     says nothing, and is void; what a CA has said of its limits stands.
//   - Limits are counted as the moment at which the bucket will be full again:
//     one time stamp, that needs no clearing. Order slots are taken from the
//     Store in blocks, so that a thousand orders are not a thousand writes of
//     one value; who ends loses the rest of a block.
//   - What could not be used, or has failed in a way that is the CA's, counts
//     towards failover; what is about a name does not: one dead name must not
//     turn a Domain from one CA to the next and back.
//   - A CA may ask for days of patience with an order. That is obeyed, but for a
//     look when half of what is left of the certificates' life is over, and
//     every few hours where nothing is in date (policy.Look): it costs none of
//     the CA's limits, and the order is often ready by then.
//   - An order that is left for another CA's is asked for once more, and kept
//     in the archive with its key if it may have been issued (abandon.go). When
//     the CA has its turn again, that one is gone on with: turns are short when
//     a site has nothing in date, and none may cost a certificate.
//   - Every operation of the Store has a deadline (patience.go). One that
//     hangs without would hold an attempt, and with it a lane, for ever.
//   - A name keeps the certificate of another Domain until there is a better
//     one, and a Domain that has nothing adopts the Set of one that is gone
//     (lend.go): to rename, split or merge Domains must not take a site away.
//     The Set of the Domain that is gone stays where it is; it may come back.
//     So do the answers to its challenges, if a process died while they stood
//     and the next one has another configuration.
//   - A Set goes into use as a whole, but for one case (part.go): where what is
//     in use has expired or lacks a name, what there is of the next one is
//     used. With two key types and a CA that goes away between them, a whole
//     Set could wait for a week.
//   - A Domain that was had on demand ends with its certificates, if nobody has
//     asked for it since they came (remember.go). A fixed idle time would fit
//     either certificates of six days or those of ninety.
//   - The reference to a key that is kept elsewhere has the public key, too: so
//     the Store's values can be checked, and a key that was exchanged found out,
//     while the service that has it is away.
//   - An account has a lease of its own, below account-leases/ and not leases/:
//     a Domain may have any Name.
//   - A wrong configuration makes GetCertificate return an error that is both
//     ErrNotManaged and the ConfigErrors: a server that has certificates of
//     its own for what is not managed goes on with them.
//   - What is wrong with Manager.Default is reported once, as a field of the
//     Manager, and the Domains are checked as if it had not been said.
//
// # Where things are
//
//   - [github.com/manageddomains/md/store]: where things are kept. Write a
//     Store of your own with four methods; storetest holds its promises.
//   - [github.com/manageddomains/md/acmeclient]: how one speaks to a CA.
//   - [github.com/manageddomains/md/challenge]: how names are proved;
//     challengetest is for Challengers of your own.
//   - [github.com/manageddomains/md/status]: what the world is told.
//
// Each of them can be used without a Manager. Inside, policy decides, engine
// does, record remembers, live serves, and front answers HTTP.
package md
